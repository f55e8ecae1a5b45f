// A WebSocket that comes back to its session. Protocol: docs/live-protocol.md of Resurge.
// No dependencies, no build: <script type="module"> and an import. Nothing is logged, ever; the token is in no event and no address.

/** The version of the protocol. */
export const PROTOCOL = 1;

/** Why a connection is closed. From the server, `normal` and 4400 to 4499 are final; after anything else the client comes back. */
export const CLOSE = Object.freeze({
  normal: 1000,
  failed: 1011,
  restart: 1012,
  tryAgain: 1013,
  timeout: 4008,
  protocol: 4400,
  superseded: 4409,
});

/** Names that events of an application cannot have. */
export const RESERVED = Object.freeze(["join", "joined", "leave", "ping", "pong", "state", "token"]);

const DEFAULTS = {
  name: "live",
  storage: "session",
  join: () => ({}),
  joinTimeout: 10_000,
  stableAfter: 5_000,
  maxAttempts: Infinity,
};
const BACKOFF = { initial: 250, factor: 2, max: 30_000 };
const HEARTBEAT = { every: 25_000, timeout: 10_000 };
/** The longest wait, in ms, after a token was shown and not answered: it may be replaced already, and its grace time runs. */
const UNANSWERED = 5_000;

export class RecoverableSocket extends EventTarget {
  #options;
  #backoff;
  #heartbeat;
  #window;
  #url;
  #store;
  #socket = null;
  #state = "closed";
  #shown = null; // the token of the join that was sent
  #failures = 0; // since a connection was stable
  #timers = new Map();

  constructor(url, options = {}) {
    super();
    this.#options = { ...DEFAULTS, ...given(options) };
    this.#backoff = { ...BACKOFF, ...given(options.backoff) };
    this.#heartbeat = { ...HEARTBEAT, ...given(options.heartbeat) };
    this.#window = options.window ?? globalThis;
    const address = new URL(url, this.#window.location?.href);
    address.protocol = address.protocol.replace(/^http/, "ws");
    this.#url = address.href;
    this.#store = new TokenStore(this.#options.storage, `resurge:${this.#options.name}`, this.#window);
  }

  /** connecting, joining, ready, waiting, superseded or closed. */
  get state() {
    return this.#state;
  }

  /** Connects, now, and from now on again and again. Does nothing where it is connected or about to be. */
  connect() {
    if (["connecting", "joining", "ready"].includes(this.#state)) return;
    if (this.#state !== "waiting") {
      this.#failures = 0;
      this.#window.addEventListener?.("online", this.#wake);
      this.#window.document?.addEventListener("visibilitychange", this.#wake);
    }
    this.#open();
  }

  /** Hands a message to the connection, or throws: nothing is kept for later. What the server answered not has an unknown outcome. */
  send(event, payload) {
    if (typeof event !== "string" || event === "" || RESERVED.includes(event)) {
      throw new TypeError(`"${event}" cannot be the name of an event`);
    }
    if (this.#state !== "ready" || this.#socket.readyState !== 1) {
      throw new DOMException(`not connected: ${this.#state}`, "InvalidStateError");
    }
    this.#transmit({ event, payload });
  }

  /** Disconnects. The token stays: `connect`, or the page when it is loaded again, comes back to the session. */
  close() {
    this.#end("closed", CLOSE.normal);
  }

  /** Ends the session and forgets its token. Returns whether the server was told; if not, the session ends by its idle time. */
  leave() {
    const told = ["joining", "ready"].includes(this.#state) && this.#socket.readyState === 1;
    if (told) this.#transmit({ event: "leave" });
    this.#store.remove();
    this.#end("closed", CLOSE.normal);
    return told;
  }

  #open() {
    this.#stop();
    let socket;
    try {
      socket = new this.#window.WebSocket(this.#url);
    } catch (error) {
      this.#end("closed");
      throw error; // the address or the page does not allow it: it never will
    }
    this.#socket = socket;
    // What an abandoned connection still says is not heard.
    const current = (handle) => (event) => this.#socket === socket && handle(event);
    socket.onopen = current(() => this.#join(socket));
    socket.onmessage = current(({ data }) => this.#received(data));
    socket.onclose = current(({ code }) => this.#closed(code));
    this.#after("join", this.#options.joinTimeout, () => this.#lost(CLOSE.timeout));
    this.#enter("connecting");
  }

  async #join(socket) {
    try {
      const params = await this.#options.join();
      if (this.#socket !== socket || socket.readyState !== 1) return;
      // Always from the storage: another tab may have got a newer one.
      this.#shown = this.#store.get();
      const payload = { ...params, _recovery: this.#shown ?? undefined };
      this.#transmit({ event: "join", v: PROTOCOL, payload });
    } catch {
      // The page has no parameters, or some that JSON cannot say.
      if (this.#socket === socket) this.#lost(CLOSE.failed);
      return;
    }
    this.#enter("joining");
  }

  #received(data) {
    let frame = null;
    try {
      frame = JSON.parse(data);
    } catch {
      // Not of this protocol, as anything else that is not expected.
    }
    if (typeof frame?.event !== "string") return this.#end("closed", CLOSE.protocol);
    const { event, payload } = frame;
    this.#alive();
    if (event === "joined") return this.#joined(payload);
    // Before it is known which session this is, there is nobody to hear it.
    if (this.#state !== "ready" || event === "pong") return;
    if (event === "token" && isToken(payload?._recovery)) return this.#store.set(payload._recovery);
    if (RESERVED.includes(event)) return this.#end("closed", CLOSE.protocol);
    this.#tell(event, payload);
  }

  #joined(payload) {
    const { _recovery: token, status, state } = payload ?? {};
    const known = status === "recovered" || status === "fresh";
    if (this.#state !== "joining" || !isToken(token) || !known) return this.#end("closed", CLOSE.protocol);
    // ORDER: the new token before anybody learns of it, the old one until then: whoever breaks off in between comes back.
    const lost = status === "fresh" && this.#shown !== null;
    this.#store.set(token);
    this.#cancel("join");
    this.#after("stable", this.#options.stableAfter, () => (this.#failures = 0));
    this.#beat();
    const socket = this.#socket;
    this.#enter("ready");
    if (this.#socket === socket) this.#tell("joined", { status, state, lost });
  }

  #closed(code) {
    if (code === CLOSE.superseded) {
      // What it holds is an old token, and an old token that is shown again ends the session for who took it over.
      this.#store.superseded();
      this.#end("superseded", code);
    } else if (code === CLOSE.normal || (code >= 4400 && code <= 4499)) {
      this.#end("closed", code);
    } else {
      this.#lost(code);
    }
  }

  /** The connection is of no use any more; there will be another one. */
  #lost(code) {
    this.#drop(CLOSE.timeout);
    this.#failures += 1;
    if (this.#failures >= this.#options.maxAttempts) return this.#end("closed", code);
    const { initial, factor, max } = this.#backoff;
    const limit = this.#state === "joining" && this.#shown !== null ? Math.min(max, UNANSWERED) : max;
    const delay = this.#window.Math.random() * Math.min(limit, initial * factor ** (this.#failures - 1));
    this.#after("retry", delay, () => this.#open());
    this.#enter("waiting", { code, delay, failures: this.#failures });
  }

  /** There will be no other connection, unless the page asks for it. */
  #end(state, code) {
    this.#drop(code === CLOSE.protocol ? CLOSE.protocol : CLOSE.normal);
    this.#window.removeEventListener?.("online", this.#wake);
    this.#window.document?.removeEventListener("visibilitychange", this.#wake);
    this.#enter(state, { code });
  }

  #drop(code) {
    this.#stop();
    const socket = this.#socket;
    this.#socket = null;
    if (socket && socket.readyState < 2) socket.close(code);
  }

  /** The network, or the user, is back: no use in waiting; what looks alive may be long dead. */
  #wake = (event) => {
    if (event.type === "visibilitychange" && this.#window.document.visibilityState !== "visible") return;
    if (this.#state === "waiting") this.#open();
    else if (this.#state === "ready" && this.#heartbeat.every > 0) this.#probe();
  };

  /** A browser does not notice that the other side is gone, and a page cannot send pings of WebSocket. */
  #beat() {
    if (this.#heartbeat.every > 0) this.#after("beat", this.#heartbeat.every, () => this.#probe());
  }

  #probe() {
    if (this.#timers.has("pong")) return;
    this.#after("pong", this.#heartbeat.timeout, () => this.#lost(CLOSE.timeout));
    this.#transmit({ event: "ping" });
  }

  #alive() {
    this.#cancel("pong");
    if (this.#state === "ready") this.#beat();
  }

  #transmit(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  #enter(state, detail = {}) {
    const previous = this.#state;
    this.#state = state;
    if (state !== previous) this.#tell("state", { ...detail, state, previous });
  }

  #tell(type, detail) {
    this.dispatchEvent(Object.assign(new Event(type), { detail }));
  }

  #after(name, delay, work) {
    this.#cancel(name);
    const timer = this.#window.setTimeout(() => {
      this.#timers.delete(name);
      work();
    }, delay);
    this.#timers.set(name, timer);
  }

  #cancel(name) {
    this.#window.clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #stop() {
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
  }
}

/** Without what is `undefined`: that asks for the default. */
function given(options) {
  return Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
}

function isToken(value) {
  return typeof value === "string" && value !== "";
}

/** The token, in a `Storage`, or in memory where there is none or it fails. */
class TokenStore {
  #key;
  #place = null;
  #shared = false; // known to be what all tabs read
  #token = null; // the newest one that was seen here

  constructor(kind, key, window) {
    const named = typeof kind === "string";
    if (named && !["session", "local", "memory"].includes(kind)) throw new TypeError(`no storage "${kind}"`);
    this.#key = key;
    try {
      this.#place = (named ? window[`${kind}Storage`] : kind) ?? null;
      this.#shared = this.#place !== null && this.#place === window.localStorage;
    } catch {
      // Forbidden by the browser's settings, or in this frame.
    }
  }

  get() {
    this.#try(() => (this.#token = this.#place.getItem(this.#key)));
    return isToken(this.#token) ? this.#token : null;
  }

  set(token) {
    this.#token = token;
    if (!this.#try(() => this.#place.setItem(this.#key, token))) {
      this.#try(() => this.#place.removeItem(this.#key)); // an old token is worse than none
      this.#place = null;
    }
  }

  remove() {
    this.#token = null;
    if (!this.#try(() => this.#place.removeItem(this.#key))) this.#place = null;
  }

  /** Somebody else has the session now. What was kept here is old; what all tabs share is theirs, as is what differs from ours. */
  superseded() {
    const old = this.#token;
    this.#token = null;
    if (this.#shared) return;
    const forget = () => this.#place.getItem(this.#key) === old && this.#place.removeItem(this.#key);
    if (!this.#try(forget)) this.#place = null;
  }

  #try(work) {
    try {
      if (this.#place) work();
      return true;
    } catch {
      return false;
    }
  }
}
