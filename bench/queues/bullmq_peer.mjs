// BullMQ on Redis, 50 jobs at once. node bullmq_peer.mjs ORDER.json NODE_MODULES; see peer.py for what is done.
import { spawn } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const [orderPath, modules, role] = process.argv.slice(2);
const order = JSON.parse(fs.readFileSync(orderPath, "utf8"));
const { Queue, Worker } = createRequire(path.join(modules, "x.js"))("bullmq");
const address = new URL(order.url);
const connection = { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null };
const marks = path.join(order.folder, "marks");
const [PROBES, GAP_MS, SETTLE_MS, BATCH, PATIENCE_MS, WARMING] = [60, 20, 1000, 500, 90000, 0.2];
const now = () => process.hrtime.bigint();
const nap = (ms) => new Promise((done) => setTimeout(done, ms));

function work() {
  const file = fs.openSync(marks, "a");
  const count = async (job) => {
    const record = Buffer.alloc(16);
    record.writeBigInt64LE(BigInt(job.data.n), 0);
    record.writeBigInt64LE(now(), 8);
    fs.writeSync(file, record);
  };
  new Worker("peers", count, { connection, concurrency: 50 });
}

function read() {
  const bytes = fs.readFileSync(marks);
  return Array.from({ length: bytes.length / 16 }, (_, k) =>
    [Number(bytes.readBigInt64LE(k * 16)), bytes.readBigInt64LE(k * 16 + 8)]);
}

async function until(child, jobs) {
  const end = Date.now() + PATIENCE_MS;
  while (fs.statSync(marks).size < jobs * 16) {
    if (child.exitCode !== null || Date.now() > end) throw new Error("its worker did not run all jobs");
    await nap(3);
  }
}

async function compete() {
  fs.writeFileSync(marks, "", { mode: 0o600 });
  const queue = new Queue("peers", { connection });
  const alone = Math.floor(order.jobs / 4);
  let began = now();
  for (let n = 0; n < alone; n += 1) await queue.add("noop", { n });
  const singleS = Number(now() - began) / 1e9;
  began = now();
  for (let n = alone; n < order.jobs; n += BATCH) {
    const size = Math.min(BATCH, order.jobs - n);
    await queue.addBulk(Array.from({ length: size }, (_, k) => ({ name: "noop", data: { n: n + k } })));
  }
  const batchS = Number(now() - began) / 1e9;
  const self = fileURLToPath(import.meta.url);
  const child = spawn(process.execPath, [self, orderPath, modules, "worker"], { stdio: "ignore" });
  try {
    await until(child, order.jobs);
    const times = read().map(([, at]) => at);
    const first = Math.floor(times.length * WARMING);
    const seconds = Number(times[times.length - 1] - times[first]) / 1e9;
    await nap(SETTLE_MS);
    const sent = new Map();
    for (let n = order.jobs; n < order.jobs + PROBES; n += 1) {
      await nap(GAP_MS);
      sent.set(n, now());
      await queue.add("noop", { n });
    }
    await until(child, order.jobs + PROBES);
    const latencies = read().filter(([n]) => sent.has(n)).map(([n, at]) => Number(at - sent.get(n)) / 1e6);
    latencies.sort((a, b) => a - b);
    const rank = (share) => latencies[Math.max(1, Math.ceil(share * latencies.length - 1e-9)) - 1];
    const status = fs.readFileSync(`/proc/${child.pid}/status`, "utf8");
    return {
      single: alone / singleS, batch: (order.jobs - alone) / batchS, rate: (times.length - 1 - first) / seconds,
      p50: rank(0.5), p99: rank(0.99), rss: Number(/VmRSS:\s+(\d+)/.exec(status)[1]) * 1024,
    };
  } finally {
    const gone = new Promise((done) => child.once("exit", done));
    child.kill("SIGKILL");
    await gone; // before anything is said: who hears it ends this process at once
    await queue.close();
  }
}

if (role === "worker") work();
else {
  compete().then(
    (found) => process.stdout.write(`${JSON.stringify(found)}\n`, () => process.exit(0)),
    (error) => { console.error(error.message); process.exit(1); },
  );
}
