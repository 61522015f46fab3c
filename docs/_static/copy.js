// A button on each block of code, which copies it without prompts and outputs.

function withoutPrompts(text) {
  const lines = text.replace(/\n+$/, "").split("\n");
  if (!lines.some((line) => line.startsWith(">>>"))) {
    return lines.join("\n") + "\n";
  }
  const code = lines.filter((line) => /^(>>>|\.\.\.)( |$)/.test(line));
  return code.map((line) => line.slice(4)).join("\n") + "\n";
}

function addButtons() {
  for (const block of document.querySelectorAll("div.highlight")) {
    // What a script printed is no code, and neither is plain text.
    if (block.closest(".sphx-glr-script-out, .highlight-text, .highlight-none")) {
      continue;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy-code";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      const text = withoutPrompts(block.querySelector("pre").textContent);
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed here";
      }
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    block.append(button);
  }
}

if (typeof document !== "undefined") {
  document.addEventListener("DOMContentLoaded", addButtons);
}
