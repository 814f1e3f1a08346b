// The look of the chat. A site changes it by custom properties on the element: --monofil-colour, --monofil-ink.
export const STYLE = `
:host{--c:var(--monofil-colour,#1b4dd8);--i:var(--monofil-ink,#fff);position:fixed;inset-block-end:16px;inset-inline-end:16px;z-index:2147483000;font:15px/1.4 system-ui,sans-serif;color:#1a1d24;color-scheme:light}
:host([hidden]){display:none}
*{box-sizing:border-box}
button,input,textarea{font:inherit;color:inherit}
button{cursor:pointer;border:1px solid transparent;border-radius:8px;padding:6px 12px;background:none;min-block-size:32px}
:focus-visible{outline:3px solid var(--c);outline-offset:2px}
.launch,.main{background:var(--c);color:var(--i)}
.launch{border-radius:24px;padding:12px 20px;box-shadow:0 4px 16px #0004;font-weight:600}
.badge{background:#fff;color:#1a1d24;border-radius:10px;padding:0 7px;margin-inline-start:8px}
.panel{border:1px solid #7a80904d;display:flex;flex-direction:column;inline-size:min(380px,calc(100vw - 32px));block-size:min(600px,calc(100vh - 32px));background:#fff;border-radius:12px;box-shadow:0 8px 40px #0005;overflow:hidden}
[hidden]{display:none!important}
header{display:flex;align-items:center;gap:4px;background:var(--c);color:var(--i);padding:8px 8px 8px 16px}
h2{font-size:16px;margin:0;flex:1}
header button{font-size:14px;padding:6px 8px}
header :focus-visible,.main:focus-visible{outline-color:currentColor;outline-offset:-3px}
.log{flex:1;overflow-y:auto;margin:0;padding:12px;display:flex;flex-direction:column;gap:8px}
.log>div{max-inline-size:85%;align-self:flex-start;overflow-wrap:anywhere}
.log .visitor{align-self:flex-end}
.log p{margin:0;padding:8px 12px;border-radius:12px;background:#eef0f4;white-space:pre-wrap}
.visitor p{background:var(--c);color:var(--i)}
.log .system{align-self:center;color:#5a6070;font-size:13px;text-align:center}
svg{inline-size:18px;block-size:18px;vertical-align:-4px;fill:none;stroke:currentColor;stroke-width:2;stroke-linecap:round}
small{display:block;color:#5a6070;font-size:12px;padding:0 4px}
.visitor small{text-align:end}
.log a{display:block;color:inherit}
.quick{display:flex;flex-wrap:wrap;gap:6px;padding:0 12px 8px}
.quick button,.side{border-color:var(--c);color:var(--c);background:#fff}
.note{background:#fff6da;padding:8px 12px;font-size:13px}
.note p{margin:0 0 4px}
.wait{background:#e8eefc;padding:8px 12px;font-size:13px}
.mail{flex-basis:100%;display:flex;flex-wrap:wrap}
.error{color:#a3141c;font-size:13px;padding:0 12px 4px;margin:0}
.typing{color:#5a6070;font-size:13px;padding:0 12px;min-block-size:20px}
form{display:flex;gap:6px;padding:8px;border-block-start:1px solid #d8dbe2;align-items:end;flex-wrap:wrap}
textarea,input:not([type=file]){flex:1;min-inline-size:0;border:1px solid #7a8090;border-radius:8px;padding:6px 8px;resize:none;background:#fff}
label,input[type=tel]{flex-basis:100%}
label{font-size:13px}
@media (max-width:480px){:host(.open){inset:0}.panel{inline-size:100vw;block-size:100%;border:0;border-radius:0}header{padding:6px 4px 6px 12px}h2{font-size:15px}header button{font-size:13px;padding:6px 5px}}
@media (forced-colors:active){.launch,.panel,.log p{border:1px solid}}
`;
