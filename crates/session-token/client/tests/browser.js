// What a page finds around it, with a clock that only the test moves.

import { RecoverableSocket } from "../resurge-session.js";

export class FakeStorage {
  items = new Map();
  log = [];
  broken = false;

  getItem(key) {
    this.#check();
    return this.items.get(key) ?? null;
  }

  setItem(key, value) {
    this.#check();
    this.log.push(value);
    this.items.set(key, value);
  }

  removeItem(key) {
    this.#check();
    this.items.delete(key);
  }

  #check() {
    if (this.broken) throw new Error("storage is broken");
  }
}

export class Browser {
  now = 0;
  sockets = [];
  timers = new Map();
  listeners = new Map();
  sessionStorage = new FakeStorage();
  localStorage = new FakeStorage();
  location = { href: "https://example.org/app/page" };
  Math = { random: () => 0.5 };
  #ids = 0;

  constructor() {
    const browser = this;
    this.document = {
      visibilityState: "visible",
      addEventListener: (type, listener) => this.addEventListener(type, listener),
      removeEventListener: (type, listener) => this.removeEventListener(type, listener),
    };
    this.WebSocket = class {
      readyState = 0;
      sent = [];
      closedWith = null;

      constructor(url) {
        this.url = url;
        browser.sockets.push(this);
      }

      send(text) {
        this.sent.push(JSON.parse(text));
      }

      close(code) {
        this.closedWith = code;
        this.readyState = 2;
      }

      // The other side, and the network.

      async open() {
        this.readyState = 1;
        this.onopen({});
        await settled();
      }

      say(event, payload) {
        this.onmessage({ data: JSON.stringify({ event, payload }) });
      }

      raw(data) {
        this.onmessage({ data });
      }

      end(code) {
        this.readyState = 3;
        this.onclose({ code });
      }
    };
  }

  setTimeout(work, delay) {
    this.#ids += 1;
    this.timers.set(this.#ids, { work, at: this.now + delay });
    return this.#ids;
  }

  clearTimeout(id) {
    this.timers.delete(id);
  }

  addEventListener(type, listener) {
    if (!this.listeners.has(type)) this.listeners.set(type, new Set());
    this.listeners.get(type).add(listener);
  }

  removeEventListener(type, listener) {
    this.listeners.get(type)?.delete(listener);
  }

  fire(type) {
    for (const listener of [...(this.listeners.get(type) ?? [])]) listener({ type });
  }

  /** Lets time pass, and what is due happen in its order. */
  pass(duration) {
    const until = this.now + duration;
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.at <= until);
      if (due.length === 0) break;
      const [id, timer] = due.sort(([, a], [, b]) => a.at - b.at)[0];
      this.timers.delete(id);
      this.now = timer.at;
      timer.work();
    }
    this.now = until;
  }

  /** When the next timer is due, from now. */
  get wait() {
    return Math.min(...[...this.timers.values()].map((timer) => timer.at)) - this.now;
  }

  get socket() {
    return this.sockets.at(-1);
  }

  get token() {
    return this.sessionStorage.items.get("resurge:live") ?? null;
  }
}

/** Everything that was promised has happened. */
export function settled() {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A page with a socket; what it is told is in `heard`. */
export function page(options = {}, browser = new Browser()) {
  const socket = new RecoverableSocket("/live", { window: browser, ...options });
  const heard = [];
  for (const type of ["state", "joined", "token", "pong", "count"]) {
    socket.addEventListener(type, ({ detail }) => heard.push({ type, detail, stored: browser.token }));
  }
  return { browser, socket, heard };
}

/** The same, connected and joined with a fresh session. */
export async function joined(options = {}, browser = new Browser()) {
  const opened = page(options, browser);
  opened.socket.connect();
  await join(browser);
  return opened;
}

/** The newest connection opens and is answered. */
export async function join(browser, answer = {}) {
  await browser.socket.open();
  browser.socket.say("joined", { _recovery: "st1.one", status: "fresh", state: { count: 0 }, ...answer });
}

/** What was told of one type. */
export function of(heard, type) {
  return heard.filter((event) => event.type === type).map((event) => event.detail);
}

/** The states that were gone through. */
export function states(heard) {
  return of(heard, "state").map((detail) => detail.state);
}
