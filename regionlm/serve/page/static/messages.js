/** The bar that says what went wrong, and what can be done about it. */

import { byId } from "./dom.js";
import { keepToken, ServerError } from "./server.js";

let again = null; // what "Try again" does
let countdown = null;

/** Do something that may fail; a failure is shown, and can be tried again. */
export async function attempt(action) {
  hide();
  try {
    await action();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof ServerError)) throw error;
    show(error, () => attempt(action));
  }
}

/** Show words that need no other action than reading. */
export function complain(text) {
  hide();
  byId("message-text").textContent = text;
  byId("message").hidden = false;
}

export function hide() {
  clearInterval(countdown);
  again = null;
  for (const id of ["message", "retry", "token-form"]) byId(id).hidden = true;
}

function show(error, action) {
  complain(error.message);
  again = action;
  byId("token-form").hidden = error.kind !== "token";
  byId("retry").hidden = error.kind === "token" || error.kind === "refused";
  if (error.kind === "token") byId("token").focus();
  if (error.kind === "busy") waitAndRetry(error);
}

function waitAndRetry({ message, seconds }) {
  let left = seconds;
  byId("message-text").textContent = `${message} Trying again in ${left} s.`;
  countdown = setInterval(() => {
    left -= 1;
    if (left <= 0) again();
    else byId("retry").textContent = `Try again (${left})`;
  }, 1000);
}

export function listenForAnswers() {
  byId("retry").addEventListener("click", () => again?.());
  byId("dismiss").addEventListener("click", hide);
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    keepToken(byId("token").value.trim());
    byId("token").value = "";
    again?.();
  });
}
