(()=>{const a=document,b=a.currentScript.dataset,c=location,d='koc_click'
const e='form[action*=cart],form[action*=checkout],[data-koc],[href*="//buy.stripe.com/"],stripe-buy-button,stripe-pricing-table'
const f=g=>(g.match(/.*[?& ]koc_click=([\w-]{1,64})(?![^&;])/)||[,''])[1]
const h=f(c.search)
const i=window.koc||{}
let j=i.consent,k='',l='',m
if(i.click)return
if(j==null)j=b.consent!='required'&&!navigator.globalPrivacyControl
const n=(o,p)=>{try{if(p!=null)a.cookie=d+'='+o+';path=/;samesite=lax;max-age='+p*86400+(c.protocol=='https:'?';secure':'')+(b.domain?';domain='+b.domain:'')
return f(' '+a.cookie)}catch(error){return ''}}
const q=r=>{const s=/stripe/.test(r.localName+r.host),t=r.dataset.koc||(s?'client_reference_id':d),u=t+'='
if(r.elements){const v=r.querySelector('[name="'+t+'"]')||k&&r.appendChild(Object.assign(a.createElement('input'),{type:'hidden',name:t}))
if(v)v.value=k}else if(r.host){if(!r.matches(e)&&(r.host!=c.host||r.pathname+r.search==c.pathname+c.search))return
let w=r.koc==k?r.search:r.search.replace(u+r.koc,'')
if(k&&!('&'+w.slice(1)).includes('&'+u))w+=(w?'&':'?')+u+(r.koc=k)
if(w!=r.search)r.search=w}else if(s&&(r.koc||!r.getAttribute('client-reference-id'))){r.setAttribute('client-reference-id',r.koc=k)}}
const x=()=>a.querySelectorAll(e+(m?',a[href]':'')).forEach(q)
const y=()=>{const z=n(),A=window.Shopify
const B=j?z&&(performance.navigation||{}).type?z:h||z:''
if(B!=z&&B)m=m||n(B,Math.min(Math.max(+b.days||30,1),365))!=B
if(B!=k)a.dispatchEvent(new CustomEvent('koc:click',{detail:k=B}))
x()
if(A&&k!=l){const C=(A.routes||{root:'/'}).root+'cart'
l=k
fetch(C+'.js').then(D=>D.json()).then(E=>(E.attributes[d]||'')!=k&&fetch(C+'/update.js',{method:'POST',body:new URLSearchParams([['attributes['+d+']',k]])})).catch(()=>'')}}
window.koc={click:()=>k,
consent:F=>{j=F
l=null
if(!F)n('',0)
y()}}
y()
a.addEventListener('DOMContentLoaded',y);
['pointerdown','focusin','click','submit'].forEach(G=>a.addEventListener(G,x,true))})()
