/** The parts that the first look does not show; each is there as soon as it is defined. */
import "./bulk.js";
import "./drawer.js";
import "./new-job.js";
import "./queues.js";
import "./schedules.js";
import "./sign-in.js";
import "./toasts.js";
import "./workers.js";
