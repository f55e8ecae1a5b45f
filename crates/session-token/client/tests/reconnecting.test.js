// When a connection is lost there is another one, not too soon; and there are ends after which there is none.

import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeStorage, Browser, join, joined, of, page, states } from "./browser.js";

/** What is still asked of the page. */
function listening(browser) {
  return [...browser.listeners.values()].reduce((sum, listeners) => sum + listeners.size, 0);
}

/** The waits after each of so many connections that fail at once. */
function waits(count, options, random) {
  const { browser, socket } = page(options);
  browser.Math.random = random;
  socket.connect();
  const found = [];
  for (let i = 0; i < count; i += 1) {
    browser.socket.end(1006);
    found.push(browser.wait);
    browser.pass(browser.wait);
  }
  return found;
}

test("waits grow up to a limit", () => {
  const full = waits(9, {}, () => 1);
  assert.deepEqual(full, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  const own = waits(4, { backoff: { initial: 10, factor: 10, max: 500 } }, () => 1);
  assert.deepEqual(own, [10, 100, 500, 500]);
});

test("they are random, from nothing to all of it", () => {
  const values = [0, 0.25, 0.5, 0.99];
  assert.deepEqual(waits(4, {}, () => values.shift()), [0, 125, 500, 1_980]);
});

test("options that are undefined are as by default", async () => {
  const backoff = { initial: undefined, factor: undefined, max: undefined };
  assert.deepEqual(waits(3, { backoff }, () => 1), [250, 500, 1_000]);
  assert.deepEqual(waits(2, { backoff: undefined, maxAttempts: undefined }, () => 1), [250, 500]);
  const options = { name: undefined, storage: undefined, join: undefined, joinTimeout: undefined, stableAfter: undefined };
  const { browser, socket } = page({ ...options, heartbeat: { every: undefined, timeout: undefined } });
  socket.connect();
  assert.equal(browser.wait, 10_000);
  await join(browser);
  assert.equal(browser.token, "st1.one");
  assert.equal(browser.wait, 5_000);
  browser.pass(25_000);
  assert.deepEqual(browser.socket.sent[1], { event: "ping" });
  assert.equal(browser.wait, 10_000);
});

test("who showed a token and got no answer comes back while it is still taken", async () => {
  for (const unanswered of [(browser) => browser.pass(10_000), (browser) => browser.socket.end(1006)]) {
    const { browser, socket } = page();
    browser.sessionStorage.setItem("resurge:live", "st1.one");
    browser.Math.random = () => 1;
    socket.connect();
    for (let i = 0; i < 9; i += 1) {
      browser.socket.end(1006);
      browser.pass(browser.wait);
    }
    await browser.socket.open();
    assert.equal(browser.socket.sent[0].payload._recovery, "st1.one");
    unanswered(browser);
    assert.equal(socket.state, "waiting");
    assert.equal(browser.wait, 5_000);
    // A server that is not there has taken no token.
    browser.pass(5_000);
    browser.socket.end(1006);
    assert.equal(browser.wait, 30_000);
  }
});

test("who showed none waits as long as ever, and nobody waits longer than asked to", async () => {
  for (const [token, max, wait] of [[null, 30_000, 30_000], ["st1.one", 1_000, 1_000]]) {
    const { browser, socket } = page({ backoff: { initial: 60_000, max } });
    if (token) browser.sessionStorage.setItem("resurge:live", token);
    browser.Math.random = () => 1;
    socket.connect();
    await browser.socket.open();
    browser.socket.end(1006);
    assert.equal(browser.wait, wait);
  }
});

test("only a connection that joined, and stayed, counts as success", async () => {
  const { browser } = page();
  browser.Math.random = () => 1;
  const { socket } = page({}, browser);
  socket.connect();
  for (const wait of [250, 500, 1_000]) {
    // Accepted, and answered, and gone: a server that fails right after the join must not be hammered.
    await join(browser);
    browser.pass(4_999);
    browser.socket.end(1011);
    assert.equal(browser.wait, wait);
    browser.pass(wait);
  }
  await browser.socket.open();
  browser.socket.end(1006); // accepted, not answered
  assert.equal(browser.wait, 2_000);
  browser.pass(2_000);
  await join(browser);
  browser.pass(5_000);
  browser.socket.end(1006);
  assert.equal(browser.wait, 250);
});

test("an answer that does not come ends the wait for it", async () => {
  const { browser, socket } = page({ joinTimeout: 3_000 });
  socket.connect();
  browser.pass(2_999);
  assert.equal(socket.state, "connecting");
  browser.pass(1);
  assert.equal(socket.state, "waiting");
  browser.pass(125);
  await browser.socket.open();
  browser.pass(3_000);
  assert.equal(socket.state, "waiting");
  assert.ok(browser.sockets.every(({ closedWith }) => closedWith === 4008));
});

test("the codes of a server or network that is away lead back", async () => {
  for (const code of [1001, 1005, 1006, 1009, 1011, 1012, 1013, 4000, 4008, 4399, 4500]) {
    const { browser, socket } = await joined();
    browser.socket.end(code);
    assert.equal(socket.state, "waiting", String(code));
    browser.pass(250);
    assert.equal(browser.sockets.length, 2, String(code));
  }
});

test("final codes do not", async () => {
  for (const code of [1000, 4400, 4401, 4403, 4499]) {
    const { browser, socket, heard } = await joined();
    browser.socket.end(code);
    browser.fire("online");
    browser.pass(3_600_000);
    assert.equal(browser.sockets.length, 1, String(code));
    assert.equal(socket.state, "closed");
    assert.deepEqual(of(heard, "state").at(-1), { code, state: "closed", previous: "ready" });
    assert.equal(browser.token, "st1.one");
  }
});

test("who was superseded does not fight for it", async () => {
  const { browser, socket, heard } = await joined();
  browser.socket.end(4409);
  assert.equal(socket.state, "superseded");
  assert.equal(of(heard, "state").at(-1).code, 4409);
  assert.equal(listening(browser), 0);
  for (const event of ["online", "visibilitychange"]) browser.fire(event);
  browser.pass(3_600_000);
  assert.equal(browser.sockets.length, 1);
  // The old token would be taken for stolen.
  assert.equal(browser.token, null);
  socket.connect();
  await browser.socket.open();
  assert.deepEqual(browser.socket.sent[0].payload, {});
});

test("where tabs share the token, it is the other one's, and the user can take it back", async () => {
  const localStorage = new FakeStorage();
  const tabs = [new Browser(), new Browser()];
  const sockets = [];
  for (const [i, browser] of tabs.entries()) {
    browser.localStorage = localStorage;
    sockets.push((await joined({ storage: "local" }, browser)).socket);
    browser.socket.say("token", { _recovery: `st1.of-${i}` });
  }
  tabs[0].socket.end(4409);
  assert.equal(localStorage.items.get("resurge:live"), "st1.of-1");
  sockets[0].connect();
  await tabs[0].socket.open();
  assert.equal(tabs[0].socket.sent[0].payload._recovery, "st1.of-1");
});

test("a storage of one's own may be shared, too", async () => {
  const own = new FakeStorage();
  // The browser's itself, and something around it that nobody can see through.
  for (const [storage, localStorage] of [[own, own], [own, new FakeStorage()]]) {
    const tabs = [new Browser(), new Browser()];
    const sockets = [];
    for (const [i, browser] of tabs.entries()) {
      browser.localStorage = localStorage;
      sockets.push((await joined({ storage }, browser)).socket);
      browser.socket.say("token", { _recovery: `st1.of-${i}` });
    }
    tabs[0].socket.end(4409);
    assert.equal(own.items.get("resurge:live"), "st1.of-1");
    tabs[1].socket.end(1006);
    tabs[1].pass(1_000);
    await tabs[1].socket.open();
    assert.equal(tabs[1].socket.sent[0].payload._recovery, "st1.of-1");
    sockets[0].connect();
    await tabs[0].socket.open();
    assert.equal(tabs[0].socket.sent[0].payload._recovery, "st1.of-1");
    own.items.clear();
  }
});

test("what is one's own and old is forgotten in a storage of one's own", async () => {
  const own = new FakeStorage();
  const { browser } = await joined({ storage: own });
  browser.socket.end(4409);
  assert.equal(own.items.size, 0);
});

test("where all tabs hold one token, it is left to who has the session", async () => {
  for (const named of [true, false]) {
    const browser = new Browser();
    await joined({ storage: named ? "local" : browser.localStorage }, browser);
    browser.socket.end(4409);
    assert.equal(browser.localStorage.items.get("resurge:live"), "st1.one");
  }
});

test("storage for all tabs that does not work is not shared, and forgets", async () => {
  const failing = new Browser();
  failing.localStorage.broken = true;
  const forbidden = new Browser();
  Object.defineProperty(forbidden, "localStorage", {
    get() {
      throw new Error("forbidden");
    },
  });
  const missing = new Browser();
  missing.localStorage = undefined;
  for (const browser of [failing, forbidden, missing]) {
    const { socket } = await joined({ storage: "local" }, browser);
    browser.socket.end(4409);
    socket.connect();
    await browser.socket.open();
    assert.deepEqual(browser.socket.sent[0].payload, {});
  }
});

test("attempts end where the page says so", () => {
  const { browser, socket, heard } = page({ maxAttempts: 3 });
  socket.connect();
  for (let i = 0; i < 3; i += 1) {
    assert.equal(browser.sockets.length, i + 1);
    browser.socket.end(1006);
    if (i < 2) browser.pass(browser.wait);
  }
  browser.pass(3_600_000);
  assert.equal(browser.sockets.length, 3);
  assert.deepEqual(of(heard, "state").at(-1), { code: 1006, state: "closed", previous: "connecting" });
  socket.connect();
  browser.socket.end(1006);
  assert.equal(socket.state, "waiting");
});

test("the network, a look at the page and a call of connect end a wait", () => {
  for (const wake of [
    (browser) => browser.fire("online"),
    (browser) => browser.fire("visibilitychange"),
    (browser, socket) => socket.connect(),
  ]) {
    const { browser, socket } = page();
    socket.connect();
    browser.socket.end(1006);
    wake(browser, socket);
    assert.equal(socket.state, "connecting");
    assert.equal(browser.sockets.length, 2);
    browser.pass(9_999);
    assert.equal(browser.sockets.length, 2, "the wait went on beside it");
  }
});

test("a page that is hidden does not", () => {
  const { browser, socket } = page();
  socket.connect();
  browser.socket.end(1006);
  browser.document.visibilityState = "hidden";
  browser.fire("visibilitychange");
  assert.equal(socket.state, "waiting");
});

test("what an abandoned connection still says is not heard", async () => {
  const { browser, socket, heard } = await joined();
  const [old] = browser.sockets;
  browser.pass(25_000 + 10_000); // no pong
  assert.equal(socket.state, "waiting");
  browser.pass(250);
  await join(browser, { _recovery: "st1.two", status: "recovered" });
  old.say("count", 1);
  old.say("token", { _recovery: "st1.old" });
  old.end(4409);
  assert.equal(socket.state, "ready");
  assert.deepEqual(of(heard, "count"), []);
  assert.equal(browser.token, "st1.two");
});

test("silence is asked about, and what does not answer is dead", async () => {
  const { browser, socket } = await joined();
  browser.pass(24_999);
  assert.equal(browser.socket.sent.length, 1);
  browser.pass(1);
  assert.deepEqual(browser.socket.sent[1], { event: "ping" });
  browser.pass(9_999);
  browser.socket.say("pong");
  browser.pass(25_000);
  assert.equal(browser.socket.sent.length, 3);
  assert.equal(socket.state, "ready");
  browser.pass(10_000);
  assert.equal(socket.state, "waiting");
  assert.equal(browser.sockets[0].closedWith, 4008);
});

test("who talks is not asked", async () => {
  const { browser } = await joined();
  for (let i = 0; i < 9; i += 1) {
    browser.pass(20_000);
    browser.socket.say("count", i);
  }
  assert.equal(browser.socket.sent.length, 1);
});

test("heartbeats can be changed and turned off", async () => {
  const quick = await joined({ heartbeat: { every: 100, timeout: 50 } });
  quick.browser.pass(150);
  assert.equal(quick.socket.state, "waiting");
  const off = await joined({ heartbeat: { every: 0 } });
  off.browser.pass(3_600_000);
  off.browser.fire("online");
  assert.equal(off.browser.socket.sent.length, 1);
});

test("what looks alive is asked when the network comes back, once", async () => {
  const { browser, socket } = await joined();
  browser.fire("online");
  browser.pass(6_000);
  browser.fire("visibilitychange");
  assert.equal(browser.socket.sent.length, 2);
  browser.pass(4_000);
  assert.equal(socket.state, "waiting");
});

test("close is an end from which connect comes back", async () => {
  const { browser, socket, heard } = await joined();
  socket.close();
  assert.equal(browser.socket.closedWith, 1000);
  assert.equal(socket.state, "closed");
  assert.equal(browser.timers.size, 0);
  assert.equal(listening(browser), 0);
  const told = heard.length;
  socket.close();
  assert.equal(heard.length, told);
  socket.connect();
  await browser.socket.open();
  assert.equal(browser.socket.sent[0].payload._recovery, "st1.one");
});

test("leave ends the session there and here", async () => {
  const { browser, socket } = await joined();
  assert.equal(socket.leave(), true);
  assert.deepEqual(browser.socket.sent[1], { event: "leave" });
  assert.equal(browser.socket.closedWith, 1000);
  assert.equal(browser.token, null);
  assert.equal(socket.leave(), false);
});

test("leave without a connection forgets the token all the same", async () => {
  const { browser, socket } = await joined();
  browser.socket.end(1006);
  assert.equal(socket.leave(), false);
  assert.equal(browser.token, null);
  browser.pass(3_600_000);
  assert.equal(browser.sockets.length, 1);
});

test("a token that was forgotten is shown to nobody, whatever the storage does", async () => {
  const stuck = new Browser();
  stuck.sessionStorage.removeItem = () => {
    throw new Error("stuck");
  };
  for (const [storage, browser] of [["memory", new Browser()], ["session", stuck]]) {
    const { socket } = await joined({ storage }, browser);
    socket.leave();
    socket.connect();
    await browser.socket.open();
    assert.deepEqual(browser.socket.sent[0].payload, {}, storage);
  }
});

test("messages go out when it is ready, and are refused when not", async () => {
  const { browser, socket } = page();
  const refused = () => assert.throws(() => socket.send("count", 1), { name: "InvalidStateError" });
  refused();
  socket.connect();
  refused();
  await browser.socket.open();
  refused();
  browser.socket.say("joined", { _recovery: "st1.one", status: "fresh" });
  socket.send("count", { by: 1 });
  assert.deepEqual(browser.socket.sent[1], { event: "count", payload: { by: 1 } });
  for (const name of ["join", "joined", "leave", "ping", "pong", "state", "token", "", 7]) {
    assert.throws(() => socket.send(name), TypeError);
  }
  browser.socket.readyState = 2; // closing, and the page is not told yet
  refused();
  browser.socket.end(1006);
  refused();
  assert.equal(browser.socket.sent.length, 2);
});

test("a page that closes in the midst of an event is obeyed", async () => {
  for (const when of ["connecting", "joining", "ready", "waiting"]) {
    const { browser, socket, heard } = page();
    socket.addEventListener("state", ({ detail }) => detail.state === when && socket.close());
    socket.connect();
    if (when !== "connecting") {
      await browser.socket.open();
      if (when !== "joining") browser.socket.say("joined", { _recovery: "st1.one", status: "fresh" });
      if (when === "waiting") browser.socket.end(1006);
    }
    browser.pass(3_600_000);
    assert.equal(socket.state, "closed", when);
    assert.equal(browser.sockets.length, 1, when);
    assert.equal(browser.timers.size, 0, when);
    assert.equal(states(heard).at(-1), "closed");
    if (when === "ready") assert.deepEqual(of(heard, "joined"), []);
  }
});

test("an address that is none is refused at once", () => {
  assert.throws(() => page({ window: { location: { href: "about:blank" } } }), TypeError);
  const { browser, socket } = page();
  browser.WebSocket = class {
    constructor() {
      throw new Error("not from this page");
    }
  };
  assert.throws(() => socket.connect(), /not from this page/);
  assert.equal(socket.state, "closed");
  assert.equal(browser.timers.size, 0);
  assert.equal(listening(browser), 0);
});

test("connecting twice is connecting once", async () => {
  const { browser, socket } = page();
  socket.connect();
  socket.connect();
  assert.equal(listening(browser), 2);
  await browser.socket.open();
  socket.connect();
  browser.socket.say("joined", { _recovery: "st1.one", status: "fresh" });
  socket.connect();
  assert.equal(socket.state, "ready");
  assert.equal(browser.sockets.length, 1);
});
