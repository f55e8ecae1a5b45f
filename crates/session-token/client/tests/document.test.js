// The protocol's document says what the client does, frame by frame.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { CLOSE, RecoverableSocket, RESERVED } from "../resurge-session.js";
import { join, joined, of, page } from "./browser.js";

const root = new URL("../../../../", import.meta.url);
const document = readFileSync(new URL("docs/live-protocol.md", root), "utf8");
const types = readFileSync(new URL("../resurge-session.d.ts", import.meta.url), "utf8");

/** The frames of the blocks that one side sends. */
function frames(side) {
  const blocks = [...document.matchAll(new RegExp("```json " + side + "\\n([^`]*)```", "g"))];
  return blocks.flatMap(([, block]) => block.trim().split("\n")).map((line) => JSON.parse(line));
}

test("the client sends the frames of the document", async () => {
  const { browser, socket } = page({ join: () => ({ view: 7 }) });
  browser.sessionStorage.setItem("resurge:live", "st1.one");
  socket.connect();
  await join(browser, { status: "recovered" });
  browser.fire("online");
  socket.send("add", { by: 2 });
  socket.leave();
  assert.deepEqual(browser.socket.sent, frames("client"));
});

test("the client takes the frames of the document", async () => {
  const { browser, socket, heard } = page();
  socket.connect();
  await browser.socket.open();
  const stored = frames("server").map(({ event, payload }) => {
    browser.socket.say(event, payload);
    return browser.token;
  });
  assert.deepEqual(stored, ["st1.two", "st1.three", "st1.three", "st1.three"]);
  assert.deepEqual(of(heard, "joined"), [{ status: "recovered", state: { count: 3 }, lost: false }]);
  assert.deepEqual(of(heard, "count"), [5]);
  assert.equal(socket.state, "ready");
});

test("the client does with each code what the document says", async () => {
  const rows = [...document.matchAll(/^\| (\d{4})[^|]*\|[^|]*\|[^|]*\|([^|]*)\|$/gm)];
  assert.ok(rows.length > Object.keys(CLOSE).length);
  for (const [, code, says] of rows) {
    const { browser, socket } = await joined();
    browser.socket.end(Number(code));
    assert.equal(socket.state === "waiting", says.includes("comes back"), code);
    assert.equal(browser.token === null, says.trim().endsWith("forgets the token"), code);
  }
});

test("the types know everything that is there", () => {
  const methods = Object.getOwnPropertyNames(RecoverableSocket.prototype);
  for (const name of [...methods, ...Object.keys(CLOSE)]) {
    assert.match(types, new RegExp(`\\b${name}\\b`), name);
  }
  for (const [name, code] of Object.entries(CLOSE)) assert.ok(types.includes(`${name}: ${code};`), name);
  for (const name of RESERVED) assert.ok(document.includes(`\`${name}\``), name);
});
