// Text of the service, made safe and readable.

// Escapes invisible characters of foreign text.
export function visible(text) {
  return String(text).replace(/[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu, (character) => {
    return `\\u{${character.codePointAt(0).toString(16)}}`;
  });
}

export function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// A sentence, with what stands between backticks as code. The first word is a name or a command if it has more than
// letters, and stays as it is.
export function sentence(text) {
  const first = /^\S*/.exec(text)[0];
  const begun = /^\p{L}+$/u.test(first) ? text[0].toUpperCase() + text.slice(1) : text;
  const ended = /[.`]$/.test(begun) ? begun : `${begun}.`;
  return visible(ended).split("`").map((part, at) => (at % 2 ? el("code", {}, part) : part));
}

export function counted(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}
