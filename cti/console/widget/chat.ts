// <monofil-chat account="site">: a chat with the hotline on anybody's page. One script tag is enough:
// <script src="https://hotline.example/chat/widget.js" data-account="site" async></script>
import { STYLE } from './style';
import { Wire, type Frame, type Out } from './wire';
import { language, say, waiting, words, type Words } from './words';

const SCRIPT = document.currentScript as HTMLScriptElement | null;
const FIELDS = ['name', 'email', 'phone', 'case'];
const TYPING_MS = 3000;
const NEAR_PX = 60;
const EMAIL = /^[^\s@<>]+@[^\s@<>]+\.[^\s@<>]+$/;
const TYPES = 'image/png,image/jpeg,image/gif,image/webp,audio/*,application/pdf,text/plain,.docx,.xlsx,.odt,.ods';

interface Author { kind: string; name: string }
interface Said { text: string; author: Author; left?: boolean; client_id?: string; buttons?: { title: string; payload: string }[]; attachments?: { name: string; url: string }[] }

function make<K extends keyof HTMLElementTagNameMap>(tag: K, about: Partial<HTMLElementTagNameMap[K]> & Record<string, unknown> = {}, ...inside: (Node | string)[]): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (name in made && !name.startsWith('aria')) (made as unknown as Record<string, unknown>)[name] = value;
    else made.setAttribute(name, String(value));
  }
  made.append(...inside);
  return made;
}

/** A paper clip: drawn, for not every device has a sign for it. */
function clip(): SVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  path.setAttribute('d', 'm20 11-8.5 8.5a5 5 0 0 1-7-7L13 4a3.3 3.3 0 0 1 4.7 4.7L9.4 17a1.7 1.7 0 0 1-2.4-2.4l7.6-7.6');
  svg.append(path);
  return svg;
}

/** A question with two answers. */
function ask(question: string, yes: string, no: string, answer: (yes: boolean) => void): HTMLElement {
  const button = (word: string, said: boolean) => make('button', { type: 'button', className: 'side', onclick: () => answer(said) }, word);
  return make('div', { className: 'note', role: 'group', 'aria-label': question, hidden: true }, make('p', {}, question), button(yes, true), ' ', button(no, false));
}

/** Words of a live region: set only when they are others, so that they are read aloud once. */
function tell(region: HTMLElement, text: string): void {
  region.hidden = !text;
  if (region.textContent !== text) region.textContent = text;
}

const unique = (): string => crypto.getRandomValues(new Uint32Array(3)).join('-');

class Chat extends HTMLElement {
  private built = false;
  private tongue = 'en';
  private w!: Words;
  private wire!: Wire;
  private launch!: HTMLButtonElement;
  private badge!: HTMLElement;
  private panel!: HTMLElement;
  private log!: HTMLElement;
  private quick!: HTMLElement;
  private note!: HTMLElement;
  private wait!: HTMLElement;
  private ending!: HTMLElement;
  private endButton!: HTMLButtonElement;
  private mail!: HTMLElement;
  private address!: HTMLInputElement;
  private typing!: HTMLElement;
  private error!: HTMLElement;
  private consent!: HTMLElement;
  private lost!: HTMLElement;
  private text!: HTMLTextAreaElement;
  private callForm!: HTMLFormElement;
  private phone!: HTMLInputElement;
  private own = new Map<string, HTMLElement>(); // by client id
  private unread = 0;
  private readTo = 0;
  private told = 0; // when we last said that the visitor types
  private quiet = 0;
  private asked = false;
  private low = true; // the last message is in sight
  private reachable = false; // an address for the answer is known

  connectedCallback(): void {
    if (!this.built) this.build();
    if (this.kept()) this.wire.open();
    document.addEventListener('visibilitychange', this.look);
  }

  disconnectedCallback(): void {
    this.wire.close();
    document.removeEventListener('visibilitychange', this.look);
  }

  private get key(): string {
    return `monofil-chat:${this.getAttribute('account') ?? ''}`;
  }

  /** Only what the visitor has agreed to is kept: the token, in the site's own storage. */
  private kept(): boolean {
    try {
      this.wire.token ??= localStorage.getItem(this.key);
    } catch {
      return false; // the site has no storage
    }
    return this.wire.token !== null;
  }

  private keep(): void {
    try {
      if (this.wire.token) localStorage.setItem(this.key, this.wire.token);
    } catch {
      // then it lasts as long as the page
    }
  }

  private agreed(): boolean {
    try {
      return localStorage.getItem(this.key) !== null;
    } catch {
      return false;
    }
  }

  private build(): void {
    this.built = true;
    this.tongue = language(this.getAttribute('lang'), document.documentElement.lang, navigator.language);
    const w = (this.w = words(this.tongue));
    const server = this.getAttribute('server') ?? new URL(SCRIPT?.src ?? location.href).origin;
    const base = `${server.replace(/\/$/, '')}/chat/${encodeURIComponent(this.getAttribute('account') ?? '')}`;
    this.wire = new Wire(base, () => this.hello(), { hear: (frame) => this.hear(frame), state: (up) => tell(this.lost, up ? '' : w.lost) });
    const root = this.attachShadow({ mode: 'open' });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];

    this.badge = make('span', { className: 'badge', hidden: true });
    this.launch = make('button', { type: 'button', className: 'launch', 'aria-expanded': 'false', onclick: () => this.show(true) }, w.title, this.badge);
    this.log = make('div', { className: 'log', role: 'log', 'aria-label': w.log, 'aria-live': 'polite', tabIndex: 0 });
    this.quick = make('div', { className: 'quick', role: 'group', hidden: true });
    this.note = make('div', { className: 'note', role: 'status', hidden: true });
    this.lost = make('div', { className: 'note', role: 'status', hidden: true });
    this.wait = make('div', { className: 'wait', role: 'status', hidden: true });
    this.typing = make('div', { className: 'typing', role: 'status' });
    this.error = make('p', { className: 'error', role: 'alert', hidden: true });
    this.consent = ask(w.keep, w.yes, w.no, (yes) => this.answered(yes));
    this.ending = ask(w.endAsk, w.endYes, w.endNo, (yes) => this.ended(yes));
    this.endButton = make('button', { type: 'button', className: 'end', hidden: true, onclick: () => this.askEnd() }, w.end);
    this.address = make('input', { type: 'email', autocomplete: 'email', id: 'mail' });
    this.mail = make('div', { className: 'mail', hidden: true }, make('label', { htmlFor: 'mail' }, w.mail), this.address);
    this.text = make('textarea', { rows: 2, maxLength: 4000, 'aria-label': w.write, placeholder: w.write, onkeydown: (event: KeyboardEvent) => this.typed(event) });
    const file = make('input', { type: 'file', hidden: true, accept: TYPES, onchange: () => void this.attach(file) });
    const compose = make('form', { noValidate: true, onsubmit: (event: Event) => this.send(event) }, this.mail, this.text, file,
      make('button', { type: 'button', className: 'side', 'aria-label': w.attach, title: w.attach, onclick: () => file.click() }, clip()),
      make('button', { type: 'submit', className: 'main' }, w.send));
    this.phone = make('input', { type: 'tel', autocomplete: 'tel', id: 'phone', required: true });
    this.callForm = make('form', { hidden: true, onsubmit: (event: Event) => this.callMe(event) }, make('label', { htmlFor: 'phone' }, w.phone), this.phone,
      make('button', { type: 'submit', className: 'main' }, w.ask), make('button', { type: 'button', className: 'side', onclick: () => this.calling(false) }, w.cancel));
    this.panel = make('section', { className: 'panel', role: 'dialog', 'aria-label': w.title, hidden: true, onkeydown: (event: KeyboardEvent) => this.leave(event) },
      make('header', {}, make('h2', {}, w.title), make('button', { type: 'button', className: 'call', onclick: () => this.calling(this.callForm.hidden) }, w.callMe), this.endButton,
        make('button', { type: 'button', 'aria-label': w.close, title: w.close, onclick: () => this.show(false) }, '✕')),
      this.lost, this.note, this.wait, this.log, this.typing, this.quick, this.consent, this.ending, this.error, this.callForm, compose);
    root.append(this.launch, this.panel);
    this.log.onscroll = () => (this.low = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR_PX);
    new ResizeObserver(() => this.low && this.foot()).observe(this.log);
  }

  private hello(): Out {
    const fields: Record<string, string> = {};
    for (const name of FIELDS) {
      const value = this.getAttribute(name);
      if (value) fields[name] = value;
    }
    return { type: 'hello', lang: this.tongue, page_url: location.origin + location.pathname, referrer: document.referrer.split(/[?#]/)[0], fields };
  }

  private show(open: boolean): void {
    this.panel.hidden = !open;
    this.launch.hidden = open;
    this.launch.setAttribute('aria-expanded', String(open));
    this.classList.toggle('open', open);
    if (open) {
      this.wire.open();
      this.text.focus();
      this.look();
      this.foot();
    } else this.launch.focus();
  }

  /** An answer of `false` would take the key away from whom it is for. */
  private leave(event: KeyboardEvent): void {
    if (event.key !== 'Escape') return;
    if (!this.ending.hidden) this.ended(false);
    else if (!this.callForm.hidden) this.calling(false);
    else this.show(false);
  }

  /** What is shown has been read. */
  private look = (): void => {
    if (this.panel.hidden || document.hidden) return;
    this.unread = 0;
    this.count();
    if (this.wire.seq > this.readTo && this.log.querySelector('.advisor,.bot')) {
      this.readTo = this.wire.seq;
      this.wire.say({ type: 'read', seq: this.readTo });
    }
  };

  private count(): void {
    this.badge.hidden = !this.unread;
    this.badge.textContent = String(this.unread);
    this.launch.setAttribute('aria-label', this.unread ? `${this.w.title}, ${say(this.w.unread, { n: this.unread })}` : this.w.title);
  }

  // ---- what is heard ----

  private hear({ seq, type, data }: Frame): void {
    const w = this.w;
    if (type === 'message') this.message(data as unknown as Said, seq ?? 0);
    else if (type === 'welcome') this.welcome(data);
    else if (type === 'state') this.stands(data);
    else if (type === 'typing') this.types(data.on === true, String(data.name ?? ''));
    else if (type === 'transfer') {
      if (data.to === 'advisor') this.line(say(w.joined, { name: String(data.name ?? '') || w.someone }));
    } else if (type === 'ended') {
      this.offer([]);
      this.types(false, '');
      this.line(data.by === 'visitor' ? w.left : w.ended);
    } else if (type === 'status') this.marked(data);
    else if (type === 'error') this.refused(data);
  }

  private welcome(data: Record<string, unknown>): void {
    if (this.agreed()) this.keep();
    const mail = String(data.email ?? '');
    this.note.replaceChildren(this.w.shut, ...(mail ? [` ${this.w.orMail} `, make('a', { href: `mailto:${mail}` }, mail)] : []), '.');
    this.reachable = data.reachable === true;
    this.stands(data);
  }

  /** Whether somebody is there, whether something goes on, and how long the visitor still waits. */
  private stands(data: Record<string, unknown>): void {
    this.note.hidden = data.open === true;
    this.endButton.hidden = data.live !== true;
    if (data.live !== true) this.ending.hidden = true;
    tell(this.wait, data.waiting === true ? waiting(this.w, data.queue_position as number | null, data.wait_estimate as [number, number] | null) : '');
    this.mail.hidden = this.reachable || (data.open === true && data.waiting !== true);
  }

  private message(said: Said, seq: number): void {
    if (said.left) return this.line(this.w.left);
    const mine = said.author.kind === 'visitor';
    const there = said.client_id ? this.own.get(said.client_id) : undefined;
    const item = this.item(said.author, said.text, said.attachments ?? []);
    if (there) {
      there.replaceWith(item);
    } else this.log.append(item);
    if (mine && said.client_id) {
      this.own.set(said.client_id, item);
      item.append(make('small', { className: 'state' }, this.w.sent));
    }
    this.offer(mine ? [] : (said.buttons ?? []));
    this.types(false, '');
    this.foot();
    if (mine) return;
    if (this.panel.hidden || document.hidden) {
      this.unread += 1;
      this.count();
      this.wire.say({ type: 'delivered', seq });
    } else this.look();
  }

  private foot(): void {
    this.log.scrollTop = this.log.scrollHeight;
  }

  private item(author: Author, text: string, files: { name: string; url: string }[]): HTMLElement {
    const item = make('div', { className: author.kind });
    const who = author.kind === 'bot' ? `${author.name} (${this.w.bot})` : author.kind === 'advisor' ? author.name || this.w.someone : author.kind === 'visitor' ? this.w.you : '';
    if (who) item.append(make('small', { className: 'who' }, who));
    if (text) item.append(author.kind === 'system' ? text : make('p', {}, text));
    for (const file of files) item.append(make('a', { href: file.url, target: '_blank', rel: 'noopener noreferrer' }, clip(), file.name));
    return item;
  }

  private line(text: string): void {
    if (this.log.lastElementChild?.textContent === text) return;
    this.log.append(this.item({ kind: 'system', name: '' }, text, []));
    this.foot();
  }

  private offer(buttons: { title: string; payload: string }[]): void {
    this.quick.replaceChildren(...buttons.map(({ title, payload }) => make('button', { type: 'button', onclick: () => this.write(title, { payload }) }, title)));
    this.quick.hidden = !buttons.length;
  }

  private types(on: boolean, name: string): void {
    clearTimeout(this.quiet);
    this.typing.textContent = on ? say(this.w.typing, { name: name || this.w.someone }) : '';
    if (on) this.quiet = window.setTimeout(() => this.types(false, ''), 20_000);
  }

  private marked(data: Record<string, unknown>): void {
    const id = data.client_id as string | undefined;
    const items = id ? [this.own.get(id)] : data.state === 'read' ? [...this.own.values()] : [];
    for (const item of items) {
      const state = item?.querySelector('.state');
      if (state) state.textContent = id ? this.w.sent : this.w.read;
    }
  }

  private refused(data: Record<string, unknown>): void {
    if (data.retry_after !== undefined) return;
    const code = String(data.code);
    this.complain(code === 'phone' ? 'phoneWrong' : code);
    if (code === 'email') this.reachable = this.mail.hidden = false;
    const state = this.own.get(String(data.client_id))?.querySelector('.state');
    if (state) state.textContent = this.w.failed;
  }

  private complain(code: string): void {
    this.error.textContent = (this.w as Record<string, string>)[code] ?? this.w.wrong;
    this.error.hidden = false;
  }

  // ---- what is said ----

  private say(frame: Out, text: string): void {
    const id = unique();
    const item = this.item({ kind: 'visitor', name: '' }, text, []);
    item.append(make('small', { className: 'state' }, this.w.sending));
    this.own.set(id, item);
    this.log.append(item);
    this.foot();
    this.error.hidden = true;
    this.offer([]);
    this.wire.open();
    this.wire.say({ ...frame, client_id: id });
    if (!this.asked && !this.agreed()) {
      this.asked = true;
      this.consent.hidden = false;
    }
  }

  private write(text: string, more: Record<string, unknown> = {}): void {
    this.say({ type: 'message', text, ...more }, text);
    this.text.focus();
  }

  private send(event: Event): void {
    event.preventDefault();
    const text = this.text.value.trim();
    if (!text) return;
    const email = this.mail.hidden ? '' : this.address.value.trim();
    if (email && !EMAIL.test(email)) {
      this.complain('email');
      this.address.focus();
      return;
    }
    this.text.value = '';
    this.told = 0;
    this.write(text, email ? { email } : {});
    if (email) this.reachable = this.mail.hidden = true;
  }

  private typed(event: KeyboardEvent): void {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      this.send(event);
    } else if (event.key.length === 1 && Date.now() - this.told > TYPING_MS) {
      this.told = Date.now();
      this.wire.say({ type: 'typing', on: true });
    }
  }

  private async attach(input: HTMLInputElement): Promise<void> {
    const file = input.files?.[0];
    input.value = '';
    if (!file) return;
    if (file.size > 5_000_000) return this.complain('too_large');
    const there = await this.wire.upload(file);
    if ('code' in there) return this.complain(there.code);
    this.say({ type: 'attachment', upload_id: there.upload_id }, file.name);
  }

  private calling(on: boolean): void {
    this.callForm.hidden = !on;
    if (on) {
      this.phone.value ||= this.getAttribute('phone') ?? '';
      this.phone.focus();
    } else this.text.focus();
  }

  private callMe(event: Event): void {
    event.preventDefault();
    const phone = this.phone.value.trim();
    if (phone.replace(/\D/g, '').length < 5) return this.complain('phoneWrong');
    this.calling(false);
    this.say({ type: 'call_me', phone }, `☎ ${phone}`);
  }

  private answered(yes: boolean): void {
    this.consent.hidden = true;
    if (yes) this.keep();
    this.text.focus();
  }

  private askEnd(): void {
    this.ending.hidden = false;
    this.ending.querySelector('button')?.focus();
  }

  private ended(yes: boolean): void {
    this.ending.hidden = true;
    if (yes) this.wire.say({ type: 'end', client_id: unique() });
    this.text.focus();
  }
}

if (!customElements.get('monofil-chat')) customElements.define('monofil-chat', Chat);
const account = SCRIPT?.dataset.account;
if (account) {
  const put = () => document.body.append(make('monofil-chat' as 'div', { account, lang: SCRIPT.dataset.lang ?? '' }));
  if (document.body) put();
  else addEventListener('DOMContentLoaded', put);
}
