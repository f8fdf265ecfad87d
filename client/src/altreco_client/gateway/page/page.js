const $ = (id) => document.getElementById(id);

function query() {
  const parameters = new URLSearchParams({ k: $("k").value }); // encoded: curl takes braces for its own
  if ($("history").value.trim()) parameters.set("history", $("history").value);
  return `v1/tags?${parameters}`;
}

async function suggest() {
  const [photo] = $("photo").files;
  const url = query();
  for (const id of ["problem", "tags", "note", "command"]) $(id).replaceChildren();
  $("command").textContent = `curl --data-binary @photo.jpg '${new URL(url, location.href)}'`;
  const response = await fetch(url, { method: "POST", body: photo });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  for (const { name, score } of answer.tags) {
    const entry = document.createElement("li");
    entry.textContent = `${name} ${score.toFixed(3)}`;
    $("tags").append(entry);
  }
  const unknown = answer.unknown.length ? ` The model does not know: ${answer.unknown.join(", ")}.` : "";
  $("note").textContent = `From release ${answer.release}.${unknown}`;
}

$("form").onsubmit = async (event) => {
  event.preventDefault();
  try {
    await suggest();
  } catch (error) {
    $("problem").textContent = error.message;
  }
};
