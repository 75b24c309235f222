// Node's `ws`. Run as `node node_peer.mjs ORDER.json MODULE`, MODULE being the path of the package. See order.py.
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const { WebSocketServer } = createRequire(import.meta.url)(process.argv[3]);
const order = JSON.parse(readFileSync(process.argv[2], "utf8"));
const GREETING = '{"type":"auth_required"}';
const CONNECTED = '{"type":"connected","connectionId":"00000000-0000-0000-0000-000000000000"}';
const SUBSCRIBED = '{"type":"jobs_subscribed","seq":0,"head":0,"epoch":"","recovered":false}';
const members = new Set();
const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function check(token) {
  const [head, claims, signature] = token.split(".");
  const expected = createHmac("sha256", order.secret).update(`${head}.${claims}`).digest();
  const { aud, exp } = JSON.parse(Buffer.from(claims, "base64url"));
  return timingSafeEqual(expected, Buffer.from(signature, "base64url")) && aud === "jobctl" && exp * 1000 > Date.now();
}

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, backlog: 4096, perMessageDeflate: false });
server.on("connection", (socket) => {
  let step = 0;
  socket.on("message", (data) => {
    step += 1;
    if (step === 1) {
      if (check(JSON.parse(data).token)) socket.send(CONNECTED);
      else socket.close(4401);
    } else if (step === 2) {
      members.add(socket);
      socket.send(SUBSCRIBED);
    }
  });
  socket.on("error", () => {});
  socket.on("close", () => members.delete(socket));
  socket.send(GREETING);
});
server.on("listening", async () => {
  say({ port: server.address().port });
  for await (const line of createInterface({ input: process.stdin })) {
    const { flushes = 0, batch = 1, rate = 100, empty = false } = JSON.parse(line);
    while (empty && members.size) await sleep(20);
    const start = performance.now();
    for (let n = 0; n < flushes; n += 1) {
      const late = start + (n * 1000) / rate - performance.now();
      await (late > 0 ? sleep(late) : new Promise(setImmediate));
      for (let k = 0; k < batch; k += 1) for (const socket of members) socket.send(order.payload);
    }
    say({});
  }
  process.exit(0);
});
