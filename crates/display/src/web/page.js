"use strict";

// KeyboardEvent.code to evdev's codes: keys by their place, whatever is printed on them.
const KEYS = {};
const row = (first, ...names) => names.forEach((name, i) => { KEYS[name] = first + i; });
const letters = (first, text) => row(first, ...[...text].map((letter) => "Key" + letter));
row(1, "Escape", ..."1234567890".split("").map((digit) => "Digit" + digit), "Minus", "Equal", "Backspace", "Tab");
letters(16, "QWERTYUIOP");
row(26, "BracketLeft", "BracketRight", "Enter", "ControlLeft");
letters(30, "ASDFGHJKL");
row(39, "Semicolon", "Quote", "Backquote", "ShiftLeft", "Backslash");
letters(44, "ZXCVBNM");
row(51, "Comma", "Period", "Slash", "ShiftRight", "NumpadMultiply", "AltLeft", "Space", "CapsLock");
row(59, "F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9", "F10", "NumLock", "ScrollLock");
row(71, "Numpad7", "Numpad8", "Numpad9", "NumpadSubtract", "Numpad4", "Numpad5", "Numpad6", "NumpadAdd");
row(79, "Numpad1", "Numpad2", "Numpad3", "Numpad0", "NumpadDecimal");
row(85, "Lang5", "IntlBackslash", "F11", "F12", "IntlRo", "Lang3", "Lang4", "Convert", "KanaMode", "NonConvert");
row(96, "NumpadEnter", "ControlRight", "NumpadDivide", "PrintScreen", "AltRight");
row(102, "Home", "ArrowUp", "PageUp", "ArrowLeft", "ArrowRight", "End", "ArrowDown", "PageDown", "Insert", "Delete");
row(142, "Sleep", "WakeUp");
row(155, "LaunchMail", "BrowserFavorites");
row(158, "BrowserBack", "BrowserForward");
row(163, "MediaTrackNext", "MediaPlayPause", "MediaTrackPrevious", "MediaStop");
row(172, "BrowserHome", "BrowserRefresh");
row(113, "AudioVolumeMute", "AudioVolumeDown", "AudioVolumeUp", "Power", "NumpadEqual");
Object.assign(KEYS, { Pause: 119, NumpadComma: 121, Lang1: 122, Lang2: 123, IntlYen: 124, MetaLeft: 125, MetaRight: 126, ContextMenu: 127 });
row(183, "F13", "F14", "F15", "F16", "F17", "F18", "F19", "F20", "F21", "F22", "F23", "F24");

const $ = (id) => document.getElementById(id);
const canvas = $("picture"), paper = canvas.getContext("2d", { alpha: false });
let socket;

const encoder = new TextEncoder(), decoder = new TextDecoder();
function send(kind, ...bytes) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(new Uint8Array([kind, ...bytes]));
}
function sendText(kind, text) {
  const bytes = encoder.encode(text), message = new Uint8Array(bytes.length + 1);
  message[0] = kind;
  message.set(bytes, 1);
  if (socket?.readyState === WebSocket.OPEN) socket.send(message);
}
const word = (value) => [value >> 8 & 255, value & 255];

// What comes is dealt with in order, also where that takes time.
let queue = Promise.resolve();
// Whoever serves the page changes: the VM while it runs, and what waits for its next start in between.
const SOON = 200, LATEST = 3000;
let wait = SOON;
function connect() {
  const own = socket = new WebSocket("ws://" + location.host + "/ws" + location.search);
  own.binaryType = "arraybuffer";
  own.onopen = () => {
    wait = SOON;
    if (passing) tell("");
    black("The guest shows nothing yet.");
    send(0);
    resize();
    if (!$("console").hidden) send(6);
  };
  own.onmessage = (event) => {
    const view = new DataView(event.data), picture = decode(view);
    queue = queue.then(() => own === socket && take(view, picture)).catch(console.error);
  };
  own.onclose = () => {
    pressed.clear();
    if (wait > SOON) {
      enter("disconnected");
      tell("The VM has ended, and nothing waits here for its next start. This page goes on when it runs at this address again.", true);
    }
    setTimeout(connect, wait);
    wait = Math.min(2 * wait, LATEST);
  };
}
function black(why) {
  canvas.width = canvas.height = 0;
  canvas.style.cursor = "default";
  $("none").textContent = why;
  $("none").hidden = false;
}
// What is said under the buttons, and whether only until there is another connection.
let passing = false;
function tell(text, untilThen = false) {
  $("said").textContent = text;
  passing = untilThen;
}
// How the VM is, and so which buttons there are.
function enter(phase) {
  $("phase").textContent = phase;
  for (const button of document.querySelectorAll("[data-in]")) {
    button.hidden = !button.dataset.in.split(",").includes(phase);
  }
  if (phase === "stopped" || phase === "suspended") black("The VM does not run.");
}

async function take(view, picture) {
  const rest = new Uint8Array(view.buffer, 1);
  switch (view.getUint8(0)) {
    case 0:
      canvas.width = view.getUint16(1);
      canvas.height = view.getUint16(3);
      $("none").hidden = true;
      scale();
      break;
    case 1: paper.drawImage(await picture, view.getUint16(1), view.getUint16(3)); break;
    case 2: point(view); break;
    case 3: $("text").value = decoder.decode(rest); navigator.clipboard?.writeText($("text").value).catch(() => {}); break;
    case 4: show(view.getUint16(1), view.getUint16(3), decoder.decode(new Uint8Array(view.buffer, 5))); break;
    case 5: {
      const [phase, ...said] = decoder.decode(rest).split("\n");
      enter(phase);
      if (said.length) tell(said.join("\n"));
      break;
    }
    case 7: send(0);
  }
}

// Several parts of the picture at a time; they are drawn in order.
function decode(view) {
  if (view.getUint8(0) !== 1) return undefined;
  return createImageBitmap(new Blob([new Uint8Array(view.buffer, 9)], { type: "image/png" }));
}

function point(view) {
  const [hotX, hotY, width, height] = [1, 3, 5, 7].map((at) => view.getUint16(at));
  if (!width || !height) { canvas.style.cursor = "default"; return; }
  const small = document.createElement("canvas");
  small.width = width;
  small.height = height;
  small.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(view.buffer.slice(9)), width, height), 0, 0);
  canvas.style.cursor = `url(${small.toDataURL()}) ${hotX} ${hotY}, default`;
}

// A pixel of the guest is one of the screen, where there is room; in full screen it takes what there is.
function scale() {
  const room = $("screen").getBoundingClientRect();
  if (!room.width) return;
  const most = document.fullscreenElement ? Infinity : 1 / devicePixelRatio;
  const factor = Math.min(most, room.width / canvas.width, room.height / canvas.height);
  canvas.style.width = canvas.width * factor + "px";
  canvas.style.height = canvas.height * factor + "px";
}
function resize() {
  scale();
  const room = $("screen").getBoundingClientRect();
  if (!$("follow").checked || !room.width) return;
  const side = (length) => Math.max(64, Math.min(4095, Math.floor(length * devicePixelRatio)));
  send(4, ...word(side(room.width) & ~1), ...word(side(room.height)));
}
let settled;
// Whatever changes the room: the window, full screen, a line of text above it.
function settle() {
  scale();
  clearTimeout(settled);
  settled = setTimeout(resize, 150);
}
new ResizeObserver(settle).observe($("screen"));
addEventListener("resize", settle);
$("follow").onchange = resize;

const pressed = new Set();
function key(event, down) {
  const code = KEYS[event.code];
  if (code === undefined) return;
  if (event.code === "KeyV" && (pasting || (down && (event.ctrlKey || event.metaKey) && !event.altKey))) return paste(event, down);
  event.preventDefault();
  if (event.repeat) return;
  press(code, down);
}
function press(code, down) {
  if (down === pressed.has(code)) return;
  down ? pressed.add(code) : pressed.delete(code);
  send(1, down ? 1 : 0, ...word(code));
}
// What is to be pasted must be there before the guest hears of the key: the browser says what it is after the key, and only if
// that is its own to deal with.
let pasting;
function paste(event, down) {
  if (!down) {
    if (pasting) { pasting.released = true; event.preventDefault(); }
    return;
  }
  if (pasting || event.repeat) return event.preventDefault();
  pasting = { released: false, timer: setTimeout(pasted, 150) };
}
function pasted() {
  const { released, timer } = pasting;
  clearTimeout(timer);
  pasting = undefined;
  press(KEYS.KeyV, true);
  if (released) press(KEYS.KeyV, false);
}
function release() {
  if (pasting) clearTimeout(pasting.timer);
  pasting = undefined;
  pressed.forEach((code) => send(1, 0, ...word(code)));
  pressed.clear();
}
canvas.addEventListener("keydown", (event) => key(event, true));
canvas.addEventListener("keyup", (event) => {
  key(event, false);
  // Macs tell of no other key that is let go while this one is down.
  if (event.key === "Meta") release();
});
canvas.addEventListener("blur", release);
addEventListener("blur", release);

// Left, middle, right, and the two under the thumb, as the guest counts them.
const BUTTONS = [1, 4, 2, 8, 16];
function move(event) {
  const room = canvas.getBoundingClientRect();
  const place = (at, from, length, most) => Math.max(0, Math.min(most - 1, Math.floor((at - from) / length * most)));
  const x = place(event.clientX, room.left, room.width, canvas.width);
  const y = place(event.clientY, room.top, room.height, canvas.height);
  const buttons = BUTTONS.reduce((all, bit, i) => all | (event.buttons & bit ? 1 << i : 0), 0);
  send(2, ...word(x), ...word(y), buttons);
}
for (const kind of ["pointermove", "pointerdown", "pointerup"]) {
  canvas.addEventListener(kind, (event) => {
    if (kind === "pointerdown") { canvas.focus(); canvas.setPointerCapture(event.pointerId); }
    move(event);
    event.preventDefault();
  });
}
// Guests count notches; touchpads move by parts of one. What is left is kept, until the direction is another.
const NOTCH = [100, 3, 1], turned = { x: 0, y: 0 };
function notches(axis, delta, mode) {
  if (turned[axis] * delta < 0) turned[axis] = 0;
  turned[axis] += delta / NOTCH[mode];
  const whole = Math.max(-100, Math.min(100, Math.trunc(turned[axis])));
  turned[axis] -= whole;
  return whole;
}
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const [right, away] = [notches("x", event.deltaX, event.deltaMode), notches("y", -event.deltaY, event.deltaMode)];
  if (right || away) send(3, right & 255, away & 255);
}, { passive: false });

// The console.
function show(row, col, text) {
  const lines = text.split("\n");
  while (lines.length <= row) lines.push("");
  const line = lines[row].padEnd(col + 1);
  const cursor = document.createElement("span");
  cursor.className = "cursor";
  cursor.textContent = line[col];
  const before = [...lines.slice(0, row), line.slice(0, col)].join("\n");
  const after = [line.slice(col + 1), ...lines.slice(row + 1)].join("\n");
  $("console").replaceChildren(before, cursor, after);
}
const TYPED = {
  Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b", Delete: "\x1b[3~", Home: "\x1b[H", End: "\x1b[F", PageUp: "\x1b[5~",
  PageDown: "\x1b[6~", ArrowUp: "\x1b[A", ArrowDown: "\x1b[B", ArrowRight: "\x1b[C", ArrowLeft: "\x1b[D",
};
$("console").addEventListener("keydown", (event) => {
  let text = TYPED[event.key];
  if (event.ctrlKey && !event.altKey && /^[a-z[\]\\]$/i.test(event.key)) {
    if (event.key === "c" && String(getSelection())) return;
    text = String.fromCharCode(event.key.toUpperCase().charCodeAt(0) & 31);
  } else if (event.key.length === 1 && !event.metaKey) {
    text = event.key;
  }
  if (text === undefined) return;
  event.preventDefault();
  sendText(7, text);
});
$("console").addEventListener("paste", (event) => { sendText(7, event.clipboardData.getData("text")); event.preventDefault(); });

const views = ["screen", "console", "clipboard"];
function look(view) {
  for (const other of views) {
    $(other).hidden = other !== view;
    $("show-" + other).classList.toggle("on", other === view);
  }
  if (view === "console") send(6);
  ({ screen: canvas, console: $("console"), clipboard: $("text") })[view].focus();
}
views.forEach((view) => { $("show-" + view).onclick = () => look(view); });
$("text").oninput = () => sendText(5, $("text").value);
addEventListener("paste", (event) => {
  if (event.target === $("text") || event.target === $("console")) return;
  sendText(5, event.clipboardData.getData("text"));
  if (pasting) pasted();
});
$("full").onclick = async () => {
  await $("screen").requestFullscreen();
  navigator.keyboard?.lock?.();
  canvas.focus();
};
document.querySelectorAll("[data-act]").forEach((button) => {
  button.onclick = () => {
    const act = Number(button.dataset.act);
    if (act === 3 && !confirm("Pull the plug? The guest loses what it has not written.")) return;
    tell(button.textContent + " …", true);
    send(8, act);
  };
});
enter("connecting");
connect();
