// A few lines in place of a framework: elements, and lists whose entries move to where they belong.

export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Makes the list show `names` in this order: `create(name)` builds a new entry, `update(entry, name, place)` fills all.
export function arrange(list, names, create, update = () => {}) {
  const old = new Map([...list.children].map((entry) => [entry.dataset.name, entry]));
  const from = new Map([...list.children].map((entry) => [entry, entry.getBoundingClientRect()]));
  const entries = names.map((name, place) => {
    const entry = old.get(name) ?? create(name);
    entry.dataset.name = name;
    update(entry, name, place);
    return entry;
  });
  keepFocus(list, () => list.replaceChildren(...entries));
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const entry of entries) move(entry, from.get(entry));
}

// An entry that is moved loses the focus; one that goes leaves it to the entry that takes its place.
function keepFocus(list, change) {
  const focused = document.activeElement;
  const place = [...list.children].findIndex((entry) => entry.contains(focused));
  change();
  if (place < 0) return;
  const next = list.children[Math.min(place, list.children.length - 1)]?.querySelector("button");
  (focused.isConnected ? focused : next)?.focus();
}

function move(entry, from) {
  const to = entry.getBoundingClientRect();
  const start = from ? { transform: `translate(${from.x - to.x}px, ${from.y - to.y}px)` } : { opacity: 0 };
  if (!from || from.x !== to.x || from.y !== to.y) entry.animate([start, {}], { duration: 250, easing: "ease-out" });
}
