/** Tabs of one person's, kept in step: what is filtered, what is selected, who has signed out. */
export class Tabs {
  /** @param {(message: any) => void} heard */
  constructor(heard) {
    this.channel = new BroadcastChannel("jobctl");
    this.channel.onmessage = (event) => heard(event.data);
  }

  /** @param {Record<string, unknown>} message */
  tell(message) {
    this.channel.postMessage(message);
  }
}
