// What the chat says to visitors, in the languages it speaks.
const fr = {
  title: 'Discuter avec nous', open: 'Ouvrir la discussion', close: 'Fermer la discussion', unread: '{n} nouveaux messages', log: 'Messages',
  write: 'Votre message', send: 'Envoyer', attach: 'Joindre un fichier', callMe: 'Être rappelé', phone: 'Votre numéro de téléphone', ask: 'Demander un appel', cancel: 'Annuler',
  keep: 'Garder cette discussion sur cet appareil, pour la retrouver plus tard ?', yes: 'Oui, la garder', no: 'Non',
  shut: 'Aucun conseiller n’est disponible. Laissez un message, demandez à être rappelé', orMail: 'ou écrivez à', typing: '{name} écrit…', someone: 'Un conseiller',
  queue: 'Un conseiller va vous répondre.', place: 'Un conseiller va vous répondre. Votre rang : {n}.', joined: '{name} vous répond.', ended: 'La conversation est terminée. Vous pouvez écrire de nouveau.',
  lost: 'Connexion perdue, nouvel essai…', you: 'Vous', bot: 'assistant automatique', sending: 'envoi…', sent: 'envoyé', read: 'lu', failed: 'non envoyé', again: 'Réessayer',
  too_long: 'Ce message est trop long.', too_large: 'Ce fichier est trop grand (5 Mo au plus).', type: 'Ce type de fichier n’est pas accepté.', phoneWrong: 'Ce numéro semble incomplet.', wrong: 'Cela n’a pas pu être envoyé.',
};
export type Words = typeof fr;
const en: Words = {
  title: 'Chat with us', open: 'Open the chat', close: 'Close the chat', unread: '{n} new messages', log: 'Messages',
  write: 'Your message', send: 'Send', attach: 'Attach a file', callMe: 'Call me', phone: 'Your phone number', ask: 'Ask for a call', cancel: 'Cancel',
  keep: 'Keep this conversation on this device, to find it again later?', yes: 'Yes, keep it', no: 'No',
  shut: 'No advisor is available. Leave a message, ask to be called', orMail: 'or write to', typing: '{name} is typing…', someone: 'An advisor',
  queue: 'An advisor will answer you.', place: 'An advisor will answer you. Your place: {n}.', joined: '{name} answers you.', ended: 'The conversation has ended. You can write again.',
  lost: 'Connection lost, trying again…', you: 'You', bot: 'automated assistant', sending: 'sending…', sent: 'sent', read: 'read', failed: 'not sent', again: 'Try again',
  too_long: 'This message is too long.', too_large: 'This file is too large (5 MB at most).', type: 'This kind of file is not accepted.', phoneWrong: 'This number seems incomplete.', wrong: 'It could not be sent.',
};
const es: Words = {
  title: 'Hable con nosotros', open: 'Abrir el chat', close: 'Cerrar el chat', unread: '{n} mensajes nuevos', log: 'Mensajes',
  write: 'Su mensaje', send: 'Enviar', attach: 'Adjuntar un archivo', callMe: 'Que me llamen', phone: 'Su número de teléfono', ask: 'Pedir una llamada', cancel: 'Cancelar',
  keep: '¿Guardar esta conversación en este dispositivo para encontrarla más tarde?', yes: 'Sí, guardarla', no: 'No',
  shut: 'No hay asesores disponibles. Deje un mensaje, pida que le llamen', orMail: 'o escriba a', typing: '{name} está escribiendo…', someone: 'Un asesor',
  queue: 'Un asesor le responderá.', place: 'Un asesor le responderá. Su turno: {n}.', joined: '{name} le responde.', ended: 'La conversación ha terminado. Puede escribir de nuevo.',
  lost: 'Conexión perdida, nuevo intento…', you: 'Usted', bot: 'asistente automático', sending: 'enviando…', sent: 'enviado', read: 'leído', failed: 'no enviado', again: 'Reintentar',
  too_long: 'Este mensaje es demasiado largo.', too_large: 'Este archivo es demasiado grande (5 MB como máximo).', type: 'Este tipo de archivo no se acepta.', phoneWrong: 'Este número parece incompleto.', wrong: 'No se pudo enviar.',
};
const de: Words = {
  title: 'Chatten Sie mit uns', open: 'Chat öffnen', close: 'Chat schließen', unread: '{n} neue Nachrichten', log: 'Nachrichten',
  write: 'Ihre Nachricht', send: 'Senden', attach: 'Datei anhängen', callMe: 'Rückruf', phone: 'Ihre Telefonnummer', ask: 'Um einen Anruf bitten', cancel: 'Abbrechen',
  keep: 'Dieses Gespräch auf diesem Gerät behalten, um es später wiederzufinden?', yes: 'Ja, behalten', no: 'Nein',
  shut: 'Zurzeit ist niemand da. Hinterlassen Sie eine Nachricht, bitten Sie um einen Rückruf', orMail: 'oder schreiben Sie an', typing: '{name} schreibt…', someone: 'Ein Berater',
  queue: 'Ein Berater wird Ihnen antworten.', place: 'Ein Berater wird Ihnen antworten. Ihr Platz: {n}.', joined: '{name} antwortet Ihnen.', ended: 'Das Gespräch ist beendet. Sie können wieder schreiben.',
  lost: 'Verbindung verloren, neuer Versuch…', you: 'Sie', bot: 'automatischer Assistent', sending: 'wird gesendet…', sent: 'gesendet', read: 'gelesen', failed: 'nicht gesendet', again: 'Erneut versuchen',
  too_long: 'Diese Nachricht ist zu lang.', too_large: 'Diese Datei ist zu groß (höchstens 5 MB).', type: 'Diese Art von Datei wird nicht angenommen.', phoneWrong: 'Diese Nummer scheint unvollständig.', wrong: 'Das konnte nicht gesendet werden.',
};

const ALL: Record<string, Words> = { fr, en, es, de };

/** The first of these languages that the chat speaks. */
export function language(...wanted: (string | null | undefined)[]): string {
  for (const one of wanted) {
    const short = one?.slice(0, 2).toLowerCase() ?? '';
    if (short in ALL) return short;
  }
  return 'en';
}

export const words = (lang: string): Words => ALL[lang] ?? en;
export const say = (text: string, about: Record<string, string | number>): string => text.replace(/\{(\w+)\}/g, (_, name: string) => String(about[name] ?? ''));
