/** Small helpers for elements. */

export function byId(id) {
  return document.getElementById(id);
}

/** An element with properties (or attributes, where it has no such property) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Give an element these children. Those that it has stay where they are, and so keep the focus. */
export function arrange(parent, children) {
  for (const child of [...parent.children]) if (!children.includes(child)) child.remove();
  children.forEach((child, index) => {
    const there = parent.children[index] ?? null;
    if (there !== child) parent.insertBefore(child, there);
  });
}

/** Tell a screen reader; `#announcer` is a live region. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Show a line about the picture, which a screen reader reads as well. */
export function say(text) {
  byId("status").textContent = text;
}

/** Save a blob as a file. */
export function download(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
