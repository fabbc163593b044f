/** Shortcuts. Single letters work only while the image or its tools have the focus. */

const STEP = 0.01; // of the picture's longer side
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const TOOLS = { b: "paint", e: "erase", r: "box", c: "click" };

/** `act` holds what the keys do: takeTool, brush, newRegion, remove, undo, redo, caption, stop, help. */
export function listen({ editor, stage, tools, store, act }) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey) return withControl(event, act);
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) act.stop();
  });
  editor.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || !store.picture) return;
    if (event.target === stage && onStage(event, tools)) return event.preventDefault();
    if (event.altKey) return;
    const key = event.key.toLowerCase();
    if (key in TOOLS) act.takeTool(TOOLS[key]);
    else if (key === "[") act.brush(-1);
    else if (key === "]") act.brush(1);
    else if (key === "n") act.newRegion();
    else if (key === "delete" || key === "backspace") act.remove();
    else if (key === "?") act.help();
    else return;
    event.preventDefault();
  });
}

function withControl(event, act) {
  const key = event.key.toLowerCase();
  const isTyping = event.target.matches?.("input:not([type=range], [type=radio])");
  if (key === "enter") act.caption();
  else if (isTyping) return;
  else if (key === "z" && !event.shiftKey) act.undo();
  else if (key === "y" || key === "z") act.redo();
  else return;
  event.preventDefault();
}

function onStage(event, tools) {
  if (event.key in ARROWS) {
    const far = event.shiftKey ? 10 : 1;
    const [dx, dy] = ARROWS[event.key];
    tools.nudge(dx * STEP * far, dy * STEP * far);
    return true;
  }
  if (event.key !== " ") return false;
  tools.press({ add: event.shiftKey, cut: event.altKey });
  return true;
}
