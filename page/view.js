// The recording and what came of it: spectrograms under each other, one of them heard at a time, switched at the same
// place. All text is set as text, since names come from people.
const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};
const clock = seconds => {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};
let players = [], now = 0, frame = 0;

const draw = () => {
  cancelAnimationFrame(frame);
  for (const player of players) player.sound.pause();
  const value = props.value ?? {signals: []}, root = element.querySelector(".view");
  root.replaceChildren();
  root.classList.toggle("markable", Boolean(value.markable));
  players = [];
  if (!value.signals.length) return;
  const longest = Math.max(...value.signals.map(signal => signal.seconds));
  const play = make("button", {type: "button", class: "play", text: "Play", onclick: () => toggle()});
  const place = make("input", {
    type: "range", min: 0, max: longest, step: 0.01, value: 0, "aria-label": "Place in seconds",
    oninput: event => seek(Number(event.target.value)),
  });
  const time = make("span", {class: "time"});
  const group = `heard-${Math.random().toString(36).slice(2)}`;
  value.signals.forEach((signal, index) => {
    const sound = make("audio", {src: signal.sound, preload: "metadata"});
    const choice = make("input", {type: "radio", name: group, value: index, onchange: () => hear(index)});
    const title = make("div", {class: "title"}, make("label", {}, choice, make("span", {text: signal.name})));
    title.append(make("span", {class: "length", text: signal.seconds < 60 ? `${signal.seconds.toFixed(1)} s` : clock(signal.seconds)}));
    if (signal.note) title.append(make("strong", {class: "note", text: signal.note}));
    if (signal.file) title.append(make("a", {href: signal.sound, download: signal.file, text: "Save"}));
    const picture = make("img", {src: signal.picture, alt: `Spectrogram of ${signal.name}, 0 to 8 kHz`});
    const cursor = make("div", {class: "cursor"}), marked = make("div", {class: "marked", hidden: ""});
    const plot = make("div", {class: "plot"}, picture, marked, cursor);
    plot.style.width = `${100 * signal.seconds / longest}%`;
    const box = make("div", {class: "signal"}, title, plot, sound);
    sound.addEventListener("ended", () => { play.textContent = "Play"; });
    root.append(box);
    players.push({sound, choice, box, cursor, seconds: signal.seconds});
    point(plot, marked, signal, index, Boolean(value.markable) && index === 0);
  });
  root.append(make("div", {class: "player"}, play, place, time));

  const at = () => players[now].sound.currentTime;
  const show = () => {
    const seconds = at();
    for (const player of players) {
      player.cursor.style.left = `${100 * Math.min(seconds / player.seconds, 1)}%`;
    }
    place.value = seconds;
    time.textContent = `${clock(seconds)} of ${clock(longest)}`;
  };
  const follow = () => {
    show();
    if (!players[now].sound.paused) frame = requestAnimationFrame(follow);
  };
  const start = () => {
    players[now].sound.play().catch(error => { time.textContent = error.message; play.textContent = "Play"; });
    play.textContent = "Pause";
    follow();
  };
  const toggle = () => {
    if (players[now].sound.paused) return start();
    players[now].sound.pause();
    play.textContent = "Play";
  };
  const seek = seconds => {
    players[now].sound.currentTime = Math.min(seconds, players[now].seconds);
    show();
  };
  const hear = index => {
    const before = players[now].sound, playing = !before.paused, seconds = at();
    before.pause();
    now = index;
    players.forEach((player, number) => {
      player.choice.checked = number === index;
      player.box.classList.toggle("heard", number === index);
    });
    players[index].sound.currentTime = Math.min(seconds, players[index].seconds);
    if (playing) start(); else show();
  };
  function point(plot, marked, signal, index, markable) {
    let begun = null;
    const second = event => {
      const box = plot.getBoundingClientRect();
      return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * signal.seconds;
    };
    plot.addEventListener("pointerdown", event => {
      begun = second(event);
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointermove", event => {
      if (begun === null || !markable) return;
      const [start, end] = [begun, second(event)].sort((a, b) => a - b);
      marked.hidden = end - start < 0.1;
      marked.style.left = `${100 * start / signal.seconds}%`;
      marked.style.width = `${100 * (end - start) / signal.seconds}%`;
    });
    plot.addEventListener("pointerup", event => {
      if (begun === null) return;
      const [start, end] = [begun, second(event)].sort((a, b) => a - b);
      begun = null;
      if (markable && end - start >= 0.1) {
        trigger("mark", {start: Math.round(100 * start) / 100, end: Math.round(100 * end) / 100});
      } else {
        if (now !== index) hear(index);
        seek(end);
      }
    });
  }
  now = 0;
  hear(players.length > 1 ? 1 : 0);
};
watch("value", draw);
draw();
