/** The parts that the first look does not show; each is there as soon as it is defined. */
import "./drawer.js";
import "./new-job.js";
import "./queues.js";
import "./schedules.js";
