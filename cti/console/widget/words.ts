// What the chat says to visitors, in the languages it speaks.
const LANGUAGES = ['fr', 'en', 'es', 'de'];
const ALL = {
  title: ['Discuter avec nous', 'Chat with us', 'Hable con nosotros', 'Chatten Sie mit uns'],
  close: ['Fermer la discussion', 'Close the chat', 'Cerrar el chat', 'Chat schließen'],
  unread: ['{n} nouveaux messages', '{n} new messages', '{n} mensajes nuevos', '{n} neue Nachrichten'],
  log: ['Messages', 'Messages', 'Mensajes', 'Nachrichten'],
  write: ['Votre message', 'Your message', 'Su mensaje', 'Ihre Nachricht'],
  send: ['Envoyer', 'Send', 'Enviar', 'Senden'],
  attach: ['Joindre un fichier', 'Attach a file', 'Adjuntar un archivo', 'Datei anhängen'],
  callMe: ['Être rappelé', 'Call me', 'Que me llamen', 'Rückruf'],
  phone: ['Votre numéro de téléphone', 'Your phone number', 'Su número de teléfono', 'Ihre Telefonnummer'],
  ask: ['Demander un appel', 'Ask for a call', 'Pedir una llamada', 'Um einen Anruf bitten'],
  cancel: ['Annuler', 'Cancel', 'Cancelar', 'Abbrechen'],
  keep: ['Garder cette discussion sur cet appareil, pour la retrouver plus tard ?', 'Keep this conversation on this device, to find it again later?', '¿Guardar esta conversación en este dispositivo para encontrarla más tarde?', 'Dieses Gespräch auf diesem Gerät behalten, um es später wiederzufinden?'],
  yes: ['Oui, la garder', 'Yes, keep it', 'Sí, guardarla', 'Ja, behalten'],
  no: ['Non', 'No', 'No', 'Nein'],
  shut: ['Aucun conseiller n’est disponible. Laissez un message, demandez à être rappelé', 'No advisor is available. Leave a message, ask to be called', 'No hay asesores disponibles. Deje un mensaje, pida que le llamen', 'Zurzeit ist niemand da. Hinterlassen Sie eine Nachricht, bitten Sie um einen Rückruf'],
  orMail: ['ou écrivez à', 'or write to', 'o escriba a', 'oder schreiben Sie an'],
  typing: ['{name} écrit…', '{name} is typing…', '{name} está escribiendo…', '{name} schreibt…'],
  someone: ['Un conseiller', 'An advisor', 'Un asesor', 'Ein Berater'],
  joined: ['{name} vous répond.', '{name} answers you.', '{name} le responde.', '{name} antwortet Ihnen.'],
  ended: ['La conversation est terminée. Vous pouvez écrire de nouveau.', 'The conversation has ended. You can write again.', 'La conversación ha terminado. Puede escribir de nuevo.', 'Das Gespräch ist beendet. Sie können wieder schreiben.'],
  lost: ['Connexion perdue, nouvel essai…', 'Connection lost, trying again…', 'Conexión perdida, nuevo intento…', 'Verbindung verloren, neuer Versuch…'],
  you: ['Vous', 'You', 'Usted', 'Sie'],
  bot: ['assistant automatique', 'automated assistant', 'asistente automático', 'automatischer Assistent'],
  sending: ['envoi…', 'sending…', 'enviando…', 'wird gesendet…'],
  sent: ['envoyé', 'sent', 'enviado', 'gesendet'],
  read: ['lu', 'read', 'leído', 'gelesen'],
  failed: ['non envoyé', 'not sent', 'no enviado', 'nicht gesendet'],
  too_long: ['Ce message est trop long.', 'This message is too long.', 'Este mensaje es demasiado largo.', 'Diese Nachricht ist zu lang.'],
  too_large: ['Ce fichier est trop grand (5 Mo au plus).', 'This file is too large (5 MB at most).', 'Este archivo es demasiado grande (5 MB como máximo).', 'Diese Datei ist zu groß (höchstens 5 MB).'],
  type: ['Ce type de fichier n’est pas accepté.', 'This kind of file is not accepted.', 'Este tipo de archivo no se acepta.', 'Diese Art von Datei wird nicht angenommen.'],
  phoneWrong: ['Ce numéro semble incomplet.', 'This number seems incomplete.', 'Este número parece incompleto.', 'Diese Nummer scheint unvollständig.'],
  wrong: ['Cela n’a pas pu être envoyé.', 'It could not be sent.', 'No se pudo enviar.', 'Das konnte nicht gesendet werden.'],
  queue: ['Un conseiller va vous répondre.', 'An advisor will answer you.', 'Un asesor le responderá.', 'Ein Berater wird Ihnen antworten.'],
  first: ['Vous êtes le prochain.', 'You are next in line.', 'Usted es el siguiente.', 'Sie sind als Nächstes an der Reihe.'],
  place: ['Vous êtes en position {n}.', 'You are number {n} in line.', 'Su turno: {n}.', 'Ihr Platz: {n}.'],
  soon: ['Attente estimée : moins d’une minute.', 'Estimated wait: less than a minute.', 'Espera estimada: menos de un minuto.', 'Geschätzte Wartezeit: unter einer Minute.'],
  upTo: ['Attente estimée : moins de {high} min.', 'Estimated wait: less than {high} min.', 'Espera estimada: menos de {high} min.', 'Geschätzte Wartezeit: unter {high} Min.'],
  between: ['Attente estimée : de {low} à {high} min.', 'Estimated wait: {low} to {high} min.', 'Espera estimada: de {low} a {high} min.', 'Geschätzte Wartezeit: {low} bis {high} Min.'],
  end: ['Terminer', 'End chat', 'Terminar', 'Beenden'],
  endAsk: ['Terminer la discussion ?', 'End this chat?', '¿Terminar la conversación?', 'Dieses Gespräch beenden?'],
  endYes: ['Oui, terminer', 'Yes, end it', 'Sí, terminar', 'Ja, beenden'],
  endNo: ['Non, continuer', 'No, go on', 'No, continuar', 'Nein, weiter'],
  left: ['Vous avez terminé la discussion. Vous pouvez écrire de nouveau.', 'You have ended the chat. You can write again.', 'Ha terminado la conversación. Puede escribir de nuevo.', 'Sie haben das Gespräch beendet. Sie können wieder schreiben.'],
  mail: ['Votre adresse e-mail, pour la réponse (facultatif)', 'Your email address, for the answer (optional)', 'Su correo electrónico, para la respuesta (opcional)', 'Ihre E-Mail-Adresse, für die Antwort (freiwillig)'],
  email: ['Cette adresse e-mail semble incomplète.', 'This email address seems incomplete.', 'Este correo electrónico parece incompleto.', 'Diese E-Mail-Adresse scheint unvollständig.'],
} satisfies Record<string, [fr: string, en: string, es: string, de: string]>;

export type Words = Record<keyof typeof ALL, string>;

/** The first of these languages that the chat speaks. */
export function language(...wanted: (string | null | undefined)[]): string {
  const short = wanted.map((one) => one?.slice(0, 2).toLowerCase() ?? '');
  return short.find((one) => LANGUAGES.includes(one)) ?? 'en';
}

export function words(lang: string): Words {
  const column = LANGUAGES.indexOf(language(lang));
  return Object.fromEntries(Object.entries(ALL).map(([name, row]) => [name, row[column]])) as Words;
}

export const say = (text: string, about: Record<string, string | number>): string => text.replace(/\{(\w+)\}/g, (_, name: string) => String(about[name] ?? ''));

/** What somebody who waits is told: their place (null: not told) and the estimate in seconds (null: nobody can know). */
export function waiting(w: Words, place: number | null, range: [number, number] | null): string {
  const told = [w.queue];
  if (place) told.push(place > 1 ? say(w.place, { n: place }) : w.first);
  if (range) {
    const low = Math.round(range[0] / 60);
    const high = Math.round(range[1] / 60);
    told.push(high <= 1 ? w.soon : say(low < 1 ? w.upTo : w.between, { low, high }));
  }
  return told.join(' ');
}
