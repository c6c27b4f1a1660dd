// The two spheres of the front page (written by pullpush.idea.front): turns them together and leads their points through
// training, until the reader pauses. Without scripts the still stays; where less motion is asked for, until "Play" is pressed.
(() => {
  "use strict";
  const TURN = 0.16; // radians a second
  const STAGE = 1.5; // seconds from one recorded moment to the next
  const STEP = 0.15; // radians for an arrow key
  const RADIUS = 100;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  const add = (parent, tag, properties = {}) => {
    const node = Object.assign(document.createElement(tag), properties);
    parent.append(node);
    return node;
  };

  const limit = (value, low, high) => Math.min(high, Math.max(low, value));

  // ---------------------------------------------------------------------------------------------------------------- drawing

  // Lists of points [x, y, z]: circles of latitude, which turning does not change, then of longitude.
  const around = Array.from({ length: 49 }, (_, i) => (i * Math.PI) / 24);
  const levels = [-0.6, 0, 0.6]
    .map((u) => around.map((v) => [Math.cos(u) * Math.cos(v), Math.sin(u), Math.cos(u) * Math.sin(v)]));
  const uprights = [0, 1, 2, 3].map((k) => (k * Math.PI) / 4)
    .map((u) => around.map((v) => [Math.cos(v) * Math.cos(u), Math.sin(v), Math.cos(v) * Math.sin(u)]));

  // As pullpush.idea._turned and _seen: turned about the upright axis, then seen from a little above. x right, y down, z near.
  const camera = (angle, tilt) => {
    const [c, s, up, ahead] = [Math.cos(angle), Math.sin(angle), Math.cos(tilt), Math.sin(tilt)];
    return ([x, y, z]) => {
      const near = z * c - x * s;
      return [RADIUS * (x * c + z * s), RADIUS * (near * ahead - y * up), near * up + y * ahead];
    };
  };

  const drawGrid = ([behind, before], see) => {
    const parts = ["", ""];
    for (const ring of [...levels, ...uprights]) {
      let pen;
      for (const [x, y, z] of ring.map(see)) {
        const side = Number(z > 0);
        parts[side] += `${side === pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
        pen = side;
      }
    }
    behind.setAttribute("d", parts[0]);
    before.setAttribute("d", parts[1]);
  };

  // slices: for each depth, the farthest first, one path a class.
  const drawDots = (slices, points, labels, see) => {
    const dots = slices.map((paths) => paths.map(() => ""));
    points.forEach((point, i) => {
      const [x, y, z] = see(point);
      const depth = limit(Math.floor(((z + 1) / 2) * slices.length), 0, slices.length - 1);
      dots[depth][labels[i]] += `M${x.toFixed(1)} ${y.toFixed(1)}h0`;
    });
    slices.forEach((paths, depth) => paths.forEach((path, k) => path.setAttribute("d", dots[depth][k])));
  };

  // ----------------------------------------------------------------------------------------------------------------- points

  // Rows of three bytes each, moment after moment.
  const unpack = (text, n) => {
    const flat = Int8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return Array.from({ length: flat.length / (3 * n) }, (_, t) =>
      Array.from({ length: n }, (_, i) => flat.subarray(3 * (t * n + i), 3 * (t * n + i) + 3)),
    );
  };

  // Points at a moment between the recorded ones: a smooth curve through these (Catmull and Rom's), on the sphere.
  const placesAt = (path, moment) => {
    const stop = Math.min(Math.floor(moment), path.length - 2);
    const t = moment - stop;
    const weights = [-t * (1 - t) ** 2, 3 * t ** 3 - 5 * t * t + 2, t * (1 + 4 * t - 3 * t * t), -t * t * (1 - t)];
    const near = weights.map((_, k) => path[limit(stop + k - 1, 0, path.length - 1)]);
    return near[0].map((_, i) => {
      const sum = [0, 1, 2].map((axis) => weights.reduce((total, weight, k) => total + weight * near[k][i][axis], 0));
      const length = Math.hypot(...sum) || 1;
      return sum.map((value) => value / length);
    });
  };

  // ------------------------------------------------------------------------------------------------------------------ a pair

  const begin = (box) => {
    const { stops, labels: digits, colours, start, tilt, places } = JSON.parse(box.querySelector("script").textContent);
    const labels = [...digits].map(Number);
    const paths = places.map((text) => unpack(text, labels.length));
    const globes = [...box.querySelectorAll(".pp-idea svg")].map((svg) => ({
      grid: svg.querySelectorAll(".pp-wire"),
      slices: [...svg.querySelectorAll(".pp-dots")].map((slice) => {
        slice.replaceChildren();
        return colours.map((colour) => {
          const path = slice.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
          path.setAttribute("stroke", colour);
          return path;
        });
      }),
    }));
    const last = stops.length - 1;
    const view = { angle: start, tilt, moment: last }; // what the still shows
    let [playing, seen, frame, then] = [false, false, 0, 0];
    let untouched = false; // so far nothing was played or paused
    let held; // where the pointer that turns them was last

    const pair = box.querySelector(".pp-idea");
    Object.assign(pair, { tabIndex: 0, ariaLabel: "Two spheres that turn together: drag them, or use the arrow keys" });
    pair.setAttribute("role", "group");
    const bar = document.createElement("div");
    bar.className = "pp-play";
    pair.after(bar);
    const button = add(bar, "button", { type: "button" });
    const slider = add(bar, "label", { className: "pp-slider" });
    add(slider, "span", { textContent: "training" });
    const range = add(slider, "input", { type: "range", min: 0, max: last, step: 1 });
    const output = add(slider, "output", { ariaLive: "off" }); // it changes by itself
    add(bar, "span", { className: "pp-hint", textContent: "Drag to turn both." });

    const draw = () => {
      const see = camera(view.angle, view.tilt);
      globes.forEach(({ grid, slices }, i) => {
        drawGrid(grid, see);
        drawDots(slices, placesAt(paths[i], view.moment), labels, see);
      });
      range.value = Math.round(view.moment);
      output.textContent = stops[range.value];
      range.setAttribute("aria-valuetext", stops[range.value]);
    };

    const move = (now) => {
      const seconds = Math.min(now - then, 100) / 1000; // after a pause of the browser it goes on where it was
      then = now;
      if (!held) view.angle += TURN * seconds;
      view.moment = Math.min(last, view.moment + seconds / STAGE);
      draw();
      schedule();
    };

    const schedule = () => {
      cancelAnimationFrame(frame);
      if (playing && seen) frame = requestAnimationFrame(move);
    };

    const play = (wanted) => {
      untouched = false;
      if (wanted && view.moment === last) view.moment = 0;
      playing = wanted;
      button.textContent = playing ? "Pause" : "Play";
      button.classList.toggle("pp-playing", playing);
      schedule();
    };

    button.addEventListener("click", () => play(!playing));
    range.addEventListener("input", () => {
      play(false);
      view.moment = Number(range.value);
      draw();
    });
    calm.addEventListener("change", () => calm.matches && play(false));

    const turn = (across, down) => {
      view.angle += across;
      view.tilt = limit(view.tilt + down, -1.4, 1.4);
      draw();
    };
    const radius = () => (globes[0].grid[0].ownerSVGElement.getBoundingClientRect().width * RADIUS) / 208;
    pair.addEventListener("pointerdown", (event) => {
      if (event.button || !event.isPrimary || !event.target.closest("svg")) return;
      pair.setPointerCapture(event.pointerId);
      held = event;
    });
    pair.addEventListener("pointermove", (event) => {
      if (!held) return;
      turn((event.clientX - held.clientX) / radius(), (event.clientY - held.clientY) / radius());
      held = event;
    });
    for (const kind of ["pointerup", "pointercancel"]) pair.addEventListener(kind, () => (held = undefined));
    pair.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
      if (!step) return;
      event.preventDefault();
      turn(...step);
    });

    play(false);
    draw();
    untouched = !calm.matches;
    new IntersectionObserver(([entry]) => {
      seen = entry.isIntersecting;
      if (seen && untouched) play(true);
      schedule();
    }).observe(pair);
  };

  const start = () => document.querySelectorAll(".pp-spheres").forEach(begin);
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
