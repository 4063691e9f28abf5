// Reading single values off a chart.

/**
 * Shows the item under the pointer (or nearest to it), and lets the arrow keys walk from item to item once the chart
 * has the focus. items: [{x, y, width, height, text: [lines]}] in the picture's units, width and height only where the item
 * is a cell; columns: how many of them make a row (arrow up and down go by rows); nearest: "x" compares x alone.
 */
function inspect(box, { picture, items, columns = 1, nearest = "both" }) {
  if (items.length === 0) {
    return;
  }
  const tip = html("div", { class: "tip", role: "status", hidden: true });
  const ring = svg("g", { class: "ring", visibility: "hidden" });
  box.append(tip);
  picture.append(ring);
  picture.setAttribute("tabindex", 0);
  let current = -1;

  const outline = (item) => item.width
    ? svg("rect", { x: item.x - item.width / 2, y: item.y - item.height / 2, width: item.width, height: item.height })
    : svg("circle", { cx: item.x, cy: item.y, r: 7 });

  const hide = () => {
    current = -1;
    tip.hidden = true;
    ring.setAttribute("visibility", "hidden");
  };

  const show = (index) => {
    if (index === current) {
      return;
    }
    current = index;
    const item = items[index];
    ring.replaceChildren(outline(item));
    ring.setAttribute("visibility", "visible");
    tip.replaceChildren(...item.text.map((line, number) => html(number === 0 ? "strong" : "span", {}, line)));
    tip.hidden = false;
    const room = box.clientWidth - tip.offsetWidth;
    const above = item.y - tip.offsetHeight - 14;
    tip.style.left = `${Math.max(0, Math.min(room, item.x - tip.offsetWidth / 2))}px`;
    tip.style.top = `${above >= -30 ? above : item.y + 16}px`;
  };

  const distance = (item, x, y) => {
    const outside = (offset, size) => Math.max(0, Math.abs(offset) - (size ?? 0) / 2);
    return Math.hypot(outside(item.x - x, item.width), nearest === "x" ? 0 : outside(item.y - y, item.height));
  };

  const point = (event) => {
    const area = picture.getBoundingClientRect();
    const x = event.clientX - area.left, y = event.clientY - area.top;
    let best = 0;
    for (let i = 1; i < items.length; ++i) {
      if (distance(items[i], x, y) < distance(items[best], x, y)) {
        best = i;
      }
    }
    if (nearest === "x" || distance(items[best], x, y) <= 40) {
      show(best);
    } else {
      hide();
    }
  };

  picture.addEventListener("pointermove", point);
  picture.addEventListener("pointerdown", point);
  picture.addEventListener("pointerleave", hide);
  picture.addEventListener("focus", () => {
    if (picture.matches(":focus-visible") && current < 0) {
      show(0);
    }
  });
  picture.addEventListener("blur", hide);
  picture.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns,
      PageDown: 10 * columns, PageUp: -10 * columns, Home: -items.length, End: items.length };
    if (event.key === "Escape") {
      hide();
    } else if (event.key in steps) {
      event.preventDefault();
      show(Math.max(0, Math.min(items.length - 1, Math.max(current, 0) + (current < 0 ? 0 : steps[event.key]))));
    }
  });
}
