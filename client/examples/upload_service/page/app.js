import { arrange, make } from "./dom.js";

// All that the page shows; whoever changes it calls a render function below.
const state = {
  user: "",
  histories: {}, // user -> { tag: count }
  saved: {}, // user -> [{ id, file, url, tags }], of this visit
  vocabulary: new Set(), // empty until the server has answered
  photo: null, // { id, file, url }; the service knows it by its id
  picked: [],
  answer: { tags: [] }, // the latest suggestions
  before: null, // names of the suggestions before them for the same photo and user
};
const HISTORY_SHOWN = 12;
const $ = (id) => document.getElementById(id);
let asking = new AbortController(); // ends the question under way when a newer one makes it pointless
let uploading = new AbortController(); // the same for an upload

// ---- what the service answers

async function api(path, options) {
  const answer = await fetch(`api/${path}`, options).catch((error) => {
    throw error.name === "AbortError" ? error : failure("The service cannot be reached.");
  });
  if (answer.status === 413) throw failure("The photo is larger than the service takes: scale it down.", 413);
  const body = await answer.json().catch((error) => {
    if (error.name === "AbortError") throw error;
  });
  if (answer.ok && body !== undefined) return body;
  const words = typeof body?.detail === "string" ? body.detail : `The service did not answer (${answer.status}).`;
  throw failure(words, answer.status);
}

// A refusal (4xx) would be the same again; anything else can be tried again.
function failure(words, status = 0) {
  return Object.assign(new Error(words), { status, passing: status < 400 || status >= 500 });
}

function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return api(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function upload(file, signal) {
  return api("pictures", { method: "POST", body: file, signal });
}

// A photo that the service has dropped, or lost in a restart, is sent again.
async function postOfPhoto(photo, action, body, signal) {
  try {
    return await post(`pictures/${photo.id}/${action}`, body, signal);
  } catch (error) {
    if (error.status !== 404) throw error;
    photo.id = await upload(photo.file, signal);
    return post(`pictures/${photo.id}/${action}`, body, signal);
  }
}

function newQuestion() {
  asking.abort();
  asking = new AbortController();
  return asking.signal;
}

async function learnVocabulary() {
  if (state.vocabulary.size) return;
  state.vocabulary = new Set(await api("vocabulary"));
  $("vocabulary").replaceChildren(...[...state.vocabulary].map((tag) => new Option("", tag)));
  render();
}

async function suggest() {
  if (!state.photo) return renderSuggestions();
  const signal = newQuestion();
  $("suggestions").classList.add("waiting");
  try {
    const choice = { user: state.user, tags: state.picked };
    showAnswer(await postOfPhoto(state.photo, "suggestions", choice, signal));
  } catch (error) {
    if (!signal.aborted) showAnswer({ tags: [] });
    throw Object.assign(error, { again: suggest }); // what was done before the question is done
  }
}

function showAnswer(answer) {
  const names = state.answer.tags.map((tag) => tag.name).filter((name) => !state.picked.includes(name));
  Object.assign(state, { before: names.length ? names : null, answer });
  $("suggestions").classList.remove("waiting");
  renderSuggestions();
}

// ---- what a user does

// The photo that is being tagged stays until the service has taken the new one.
async function openPhoto(file) {
  await usersMet(); // somebody may be faster than the page
  uploading.abort();
  uploading = new AbortController();
  const id = await upload(file, uploading.signal);
  closePhoto();
  state.photo = { id, file, url: URL.createObjectURL(file) };
  render();
  await suggest();
  if (state.answer.release) await learnVocabulary(); // the server was away when the page was opened
}

function closePhoto() {
  newQuestion();
  Object.assign(state, { photo: null, picked: [], answer: { tags: [] } });
  render();
  showAnswer({ tags: [] });
}

async function changePicked(tags) {
  state.picked = tags;
  render();
  await suggest();
}

async function pick(tag) {
  if (tag && !state.picked.includes(tag)) await changePicked([...state.picked, tag]);
}

async function save() {
  const { user, photo, picked } = state;
  $("save").disabled = true; // until the next photo has a tag
  try {
    state.histories[user] = await postOfPhoto(photo, "save", { user, tags: picked });
  } catch (error) {
    render();
    throw error;
  }
  state.saved[user] = [{ ...photo, tags: picked }, ...(state.saved[user] ?? [])];
  if (state.photo === photo) closePhoto();
  else render();
  $("file").focus();
}

async function switchUser(user) {
  Object.assign(state, { user, picked: [], answer: { tags: [] } });
  render();
  await suggest();
}

// What goes wrong is said on the page; a question that a newer one has replaced is nobody's problem.
async function attempt(action) {
  $("problem").replaceChildren();
  try {
    await action();
  } catch (error) {
    if (error.name === "AbortError") return;
    const again = error.passing ? [" ", button("Try again", "Try again", error.again ?? action)] : [];
    $("problem").replaceChildren(error.message, ...again);
  }
}

// ---- the page

function render() {
  const { user, photo, picked } = state;
  $("drop").classList.toggle("filled", Boolean(photo));
  $("photo").hidden = !photo;
  if (photo) Object.assign($("photo"), { src: photo.url, alt: `The photo ${photo.file.name}` });
  $("tagging").disabled = !photo;
  $("save").disabled = !picked.length;
  $("picked-hint").hidden = picked.length > 0;
  $("picked-hint").textContent = photo ? "None yet: click a suggestion, or type a tag." : "Choose a photo first.";
  const remove = (tag) => () => changePicked(state.picked.filter((other) => other !== tag));
  const create = (tag) => make("li", {}, button(tag, `Remove ${tag}`, remove(tag)));
  arrange($("picked"), picked, create, (entry, tag) => entry.classList.toggle("unknown", isUnknown(tag)));
  $("suggestions-title").textContent = `Suggestions for ${user}`;
  renderHistory();
  renderSaved();
}

function renderSuggestions() {
  const { tags } = state.answer;
  const create = (name) => make("li", {}, button("", `Pick ${name}`, () => pick(name), "bar"));
  arrange($("suggestions"), tags.map((tag) => tag.name), create, (entry, name, place) => {
    fillBar(entry.firstChild, name, tags[place].score, movement(name, place), tags[place].score.toFixed(2));
    explain(entry.firstChild, tags[place]);
  });
  $("suggestions-hint").textContent = suggestionsHint();
  $("suggestions-hint").classList.toggle("warning", Boolean(state.answer.fallback));
  if (tags.length) $("spoken").textContent = `Suggested: ${tags.map((tag) => tag.name).join(", ")}`;
}

function suggestionsHint() {
  const { answer, photo } = state;
  if (answer.fallback) return "Your own most frequent tags, not the model's: the server cannot answer now.";
  if (!answer.tags.length) return photo ? "None." : "Choose a photo to get suggestions.";
  const moved = answer.tags.some((tag, place) => movement(tag.name, place));
  const arrows = moved ? " Arrows show what your last change did." : "";
  return `Click one to use it. Best first, from release ${answer.release}. Dark: from the photo, light: from the history.${arrows}`;
}

// How much of a bar comes from the photo; the rest, in a lighter colour, is what the history adds.
function explain(bar, { score, photo }) {
  bar.style.setProperty("--photo", photo === null ? score : Math.min(photo, score));
  bar.title = photo === null ? "" : `${photo.toFixed(2)} for the photo alone, ${score.toFixed(2)} with the history`;
}

// How a suggestion moved when a tag was picked or removed.
function movement(name, place) {
  if (!state.before) return "";
  const before = state.before.indexOf(name);
  if (before < 0) return "new";
  return before > place ? `\u2191${before - place}` : before < place ? `\u2193${place - before}` : "";
}

// The history as the model sees it: with the tags picked for the photo, each marked +1 until it is saved.
function renderHistory() {
  const { user, picked } = state;
  const saved = state.histories[user];
  const counts = { ...saved };
  for (const tag of picked) counts[tag] = (counts[tag] ?? 0) + 1;
  const names = Object.keys(counts).sort((a, b) => counts[b] - counts[a] || picked.includes(b) - picked.includes(a));
  const largest = Math.max(...names.filter((name) => !isUnknown(name)).map((name) => counts[name]));
  const create = () => make("li", { className: "bar" });
  arrange($("history"), names.slice(0, HISTORY_SHOWN), create, (entry, name) => {
    fillBar(entry, name, counts[name] / largest, picked.includes(name) ? "+1" : "", saved[name] ?? "");
    entry.classList.toggle("unknown", isUnknown(name));
  });
  $("history-title").textContent = `${user}'s history`;
  $("history-hint").textContent = historyHint(names);
}

function historyHint(names) {
  if (!names.length) return "Empty: suggestions come from the photo alone.";
  const more = names.length > HISTORY_SHOWN ? `The ${HISTORY_SHOWN} most frequent of ${names.length} tags.` : "";
  return `${more} ${names.some(isUnknown) ? "Dashed: kept, but the model does not know it." : ""}`;
}

function renderSaved() {
  const saved = state.saved[state.user] ?? [];
  arrange($("saved"), saved.map((photo) => photo.id), (id) => {
    const { file, url, tags } = saved.find((photo) => photo.id === id);
    const title = tags.join(", ");
    const open = button(make("img", { src: url, alt: "" }), `Open again: ${title}`, () => openPhoto(file));
    return make("li", { title }, open);
  });
}

function fillBar(bar, name, share, change, figure) {
  bar.replaceChildren(make("b", {}, name), make("i", {}, change), make("span", {}, figure));
  bar.style.setProperty("--share", share);
}

function button(content, ariaLabel, action, className = "") {
  return make("button", { type: "button", ariaLabel, className, onclick: () => attempt(action) }, content);
}

function isUnknown(tag) {
  return state.vocabulary.size > 0 && !state.vocabulary.has(tag);
}

// ---- start

function listen() {
  $("file").onchange = () => {
    const [file] = $("file").files;
    $("file").value = ""; // so that the same file can be chosen again
    if (file) attempt(() => openPhoto(file));
  };
  $("save").onclick = () => attempt(save);
  $("form").onsubmit = (event) => {
    event.preventDefault();
    const tag = $("own").value.trim();
    $("own").value = "";
    attempt(() => pick(tag));
  };
  document.ondragover = (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  };
  document.ondragleave = () => document.body.classList.remove("dropping");
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    if (file) attempt(() => openPhoto(file));
  };
}

async function meetUsers() {
  state.histories = await api("users");
  const names = Object.keys(state.histories);
  for (const name of names) {
    const onchange = () => attempt(() => switchUser(name));
    const input = make("input", { type: "radio", name: "user", checked: name === names[0], onchange });
    $("users").append(make("label", {}, input, name));
  }
  await switchUser(names[0]);
}

let meeting = null;

function usersMet() {
  meeting ??= meetUsers().catch((error) => {
    meeting = null;
    throw error;
  });
  return meeting;
}

listen();
attempt(() => usersMet().then(learnVocabulary));
