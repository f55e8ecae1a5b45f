// Every connection ends in a session that was recovered or is fresh, and the newest token is the one that is kept.

import assert from "node:assert/strict";
import { test } from "node:test";

import { RecoverableSocket } from "../resurge-session.js";
import { Browser, FakeStorage, join, joined, of, page, settled, states } from "./browser.js";

test("a first connection joins without a token and keeps the one it is given", async () => {
  const { browser, socket, heard } = page({ join: () => ({ view: 7 }) });
  assert.equal(socket.state, "closed");
  socket.connect();
  assert.equal(browser.socket.url, "wss://example.org/live");
  await browser.socket.open();
  assert.deepEqual(browser.socket.sent, [{ event: "join", v: 1, payload: { view: 7 } }]);
  assert.equal(socket.state, "joining");
  browser.socket.say("joined", { _recovery: "st1.one", status: "fresh", state: { count: 0 } });
  assert.equal(browser.token, "st1.one");
  assert.deepEqual(states(heard), ["connecting", "joining", "ready"]);
  assert.deepEqual(of(heard, "joined"), [{ status: "fresh", state: { count: 0 }, lost: false }]);
});

test("the token is stored before the page learns of the session", async () => {
  const { heard } = await joined();
  const told = heard.filter(({ type, detail }) => type === "joined" || detail?.state === "ready");
  assert.deepEqual(told.map(({ stored }) => stored), ["st1.one", "st1.one"]);
});

test("after a broken connection the token is shown and its successor kept", async () => {
  const { browser, heard } = await joined();
  browser.socket.end(1006);
  browser.pass(125);
  await browser.socket.open();
  assert.equal(browser.socket.sent[0].payload._recovery, "st1.one");
  browser.socket.say("joined", { _recovery: "st1.two", status: "recovered", state: { count: 3 } });
  assert.equal(browser.token, "st1.two");
  assert.deepEqual(of(heard, "joined")[1], { status: "recovered", state: { count: 3 }, lost: false });
});

test("while the answer is missing the old token stays, and is shown again", async () => {
  const { browser } = await joined();
  for (let i = 0; i < 3; i += 1) {
    browser.socket.end(1006);
    browser.pass(browser.wait);
    await browser.socket.open();
    assert.equal(browser.socket.sent[0].payload._recovery, "st1.one");
    assert.equal(browser.token, "st1.one");
  }
});

test("a session that was lost is told as such", async () => {
  const { browser, heard } = await joined();
  browser.socket.end(1012);
  browser.pass(250);
  await join(browser, { _recovery: "st1.other" });
  assert.deepEqual(of(heard, "joined")[1], { status: "fresh", state: { count: 0 }, lost: true });
  assert.equal(browser.token, "st1.other");
});

test("a page that is loaded again comes back", async () => {
  const { browser } = await joined();
  const reloaded = new Browser();
  reloaded.sessionStorage = browser.sessionStorage;
  page({}, reloaded).socket.connect();
  await reloaded.socket.open();
  assert.equal(reloaded.socket.sent[0].payload._recovery, "st1.one");
});

test("two names are two sessions", async () => {
  const { browser } = await joined();
  page({ name: "chat" }, browser).socket.connect();
  await join(browser, { _recovery: "st1.chat" });
  assert.deepEqual(browser.socket.sent[0].payload, {});
  assert.deepEqual([...browser.sessionStorage.items], [["resurge:live", "st1.one"], ["resurge:chat", "st1.chat"]]);
});

test("what comes before the answer is not delivered", async () => {
  const { browser, socket, heard } = page();
  socket.connect();
  browser.socket.say("count", 1);
  await browser.socket.open();
  browser.socket.say("count", 2);
  browser.socket.say("token", { _recovery: "st1.early" });
  assert.equal(browser.token, null);
  browser.socket.say("joined", { _recovery: "st1.one", status: "fresh", state: null });
  browser.socket.say("count", 3);
  assert.deepEqual(of(heard, "count"), [3]);
});

test("a token that changes is stored, and not told", async () => {
  const { browser, heard } = await joined();
  browser.socket.say("token", { _recovery: "st1.two" });
  assert.equal(browser.token, "st1.two");
  assert.deepEqual(of(heard, "token"), []);
  assert.ok(!JSON.stringify(heard.map(({ detail }) => detail)).includes("st1."));
});

test("an answer that is none ends it, and the old token stays", async () => {
  for (const answer of [
    { _recovery: "", status: "fresh" },
    { _recovery: 7, status: "fresh" },
    { _recovery: "st1.two" },
    { _recovery: "st1.two", status: "half" },
    { _recovery: undefined, status: "recovered" },
  ]) {
    const { browser, socket, heard } = page();
    browser.sessionStorage.setItem("resurge:live", "st1.old");
    socket.connect();
    await browser.socket.open();
    browser.socket.say("joined", answer);
    assert.equal(socket.state, "closed");
    assert.equal(browser.socket.closedWith, 4400);
    assert.deepEqual(of(heard, "state").at(-1), { code: 4400, state: "closed", previous: "joining" });
    assert.equal(browser.token, "st1.old");
    assert.equal(browser.timers.size, 0);
  }
});

test("frames that are none end it", async () => {
  for (const data of ["", "{", "null", "[]", "7", '"joined"', "{}", '{"event":7}', new ArrayBuffer(2)]) {
    const { browser, socket } = await joined();
    browser.socket.raw(data);
    assert.equal(socket.state, "closed", String(data));
    assert.equal(browser.socket.closedWith, 4400);
  }
  for (const event of ["join", "joined", "leave", "ping", "state", "token"]) {
    const { browser, socket } = await joined();
    browser.socket.say(event, {});
    assert.equal(socket.state, "closed", event);
  }
});

test("one connection is joined once", async () => {
  const { browser, socket, heard } = await joined();
  browser.socket.say("joined", { _recovery: "st1.two", status: "recovered", state: null });
  assert.equal(socket.state, "closed");
  assert.equal(of(heard, "joined").length, 1);
  assert.equal(browser.token, "st1.one");
});

test("parameters are asked for anew each time, and cannot bring a token", async () => {
  let asked = 0;
  const { browser, socket } = page({ join: async () => ({ ticket: (asked += 1), _recovery: "st1.forged" }) });
  socket.connect();
  await join(browser);
  assert.deepEqual(browser.socket.sent[0].payload, { ticket: 1 });
  browser.socket.end(1006);
  browser.pass(1_000);
  await browser.socket.open();
  assert.deepEqual(browser.socket.sent[0].payload, { ticket: 2, _recovery: "st1.one" });
});

test("parameters that cannot be had are tried again", async () => {
  const { browser, socket } = page({ join: () => Promise.reject(new Error("no ticket")) });
  socket.connect();
  await browser.socket.open();
  assert.equal(socket.state, "waiting");
  assert.equal(browser.socket.sent.length, 0);
});

test("parameters that JSON cannot say are tried again, too", async () => {
  const cycle = {};
  cycle.cycle = cycle;
  let params;
  for (params of [{ view: 7n }, cycle]) {
    const { browser, socket } = page({ join: () => params });
    socket.connect();
    await browser.socket.open();
    assert.equal(socket.state, "waiting");
    assert.equal(browser.socket.sent.length, 0);
    params = { view: 7 };
    browser.pass(250);
    await browser.socket.open();
    assert.deepEqual(browser.socket.sent[0].payload, { view: 7 });
  }
});

test("parameters that come too late join nothing", async () => {
  let give;
  const { browser, socket } = page({ join: () => new Promise((resolve) => (give = resolve)) });
  socket.connect();
  await browser.socket.open();
  const [first] = browser.sockets;
  browser.pass(10_000);
  assert.equal(socket.state, "waiting");
  give({});
  await settled();
  assert.equal(first.sent.length, 0);
  assert.equal(socket.state, "waiting");
});

test("parameters that fail too late break nothing", async () => {
  let fail;
  const { browser, socket } = page({ join: () => new Promise((_, reject) => (fail = reject)) });
  socket.connect();
  await browser.socket.open();
  const late = fail;
  browser.pass(10_000);
  socket.connect();
  late(new Error("no ticket"));
  await settled();
  assert.equal(socket.state, "connecting");
  assert.equal(browser.sockets.length, 2);
});

test("storage that fails, is forbidden or is missing is replaced by memory", async () => {
  const failing = new Browser();
  failing.sessionStorage.broken = true;
  const forbidden = new Browser();
  Object.defineProperty(forbidden, "sessionStorage", {
    get() {
      throw new Error("forbidden");
    },
  });
  const missing = new Browser();
  missing.sessionStorage = undefined;
  for (const browser of [failing, forbidden, missing]) {
    const socket = new RecoverableSocket("/live", { window: browser });
    socket.connect();
    await join(browser);
    assert.equal(socket.state, "ready");
    browser.socket.end(1006);
    browser.pass(1_000);
    await browser.socket.open();
    assert.equal(browser.socket.sent[0].payload._recovery, "st1.one");
  }
});

test("storage that is full keeps no old token", async () => {
  const { browser } = await joined();
  browser.sessionStorage.setItem = () => {
    throw new Error("full");
  };
  browser.socket.say("token", { _recovery: "st1.two" });
  assert.equal(browser.token, null);
  browser.socket.end(1006);
  browser.pass(1_000);
  await browser.socket.open();
  assert.equal(browser.socket.sent[0].payload._recovery, "st1.two");
});

test("memory, localStorage and storage of one's own are used on request only", async () => {
  const own = new FakeStorage();
  for (const [storage, place] of [["memory", null], ["local", "localStorage"], [own, null]]) {
    const { browser } = await joined({ storage });
    assert.equal(browser.sessionStorage.items.size, 0);
    assert.equal(browser.localStorage.items.size, place ? 1 : 0);
  }
  assert.equal(own.items.get("resurge:live"), "st1.one");
  assert.throws(() => page({ storage: "cookie" }), TypeError);
});

test("the token is in no address and in nothing that is printed", async () => {
  const { browser, socket } = await joined();
  browser.socket.end(1006);
  browser.pass(1_000);
  assert.ok(browser.sockets.every(({ url }) => url === "wss://example.org/live"));
  const { inspect } = await import("node:util");
  assert.ok(!inspect(socket, { depth: 9, showHidden: true }).includes("st1."));
  assert.equal(JSON.stringify(socket), "{}");
});
