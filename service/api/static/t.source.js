// Keeps the signed click id, which our redirect appended to the shop's address, with the shop, and hands it to forms,
// carts and payment links. How to use it: docs/browser.md. No library, and no request but to the shop's own cart.
//
// Served without comment lines and needless blanks, it has to stay below 2,000 bytes. The language is that of 2015:
// a phone's built-in browser that does not understand one word would do nothing at all.
(() => {
  const page = document, tag = page.currentScript.dataset, here = location, NAME = 'koc_click'
  const TAKERS = 'form[action*=cart],form[action*=checkout],[data-koc],[href*="//buy.stripe.com/"],stripe-buy-button,stripe-pricing-table'
  // The last one counts, and only what our ids are made of.
  const clickIn = text => (text.match(/.*[?& ]koc_click=([\w-]{1,64})(?![^&;])/) || [, ''])[1]
  const landed = clickIn(here.search)
  const before = window.koc || {}
  let allowed = before.consent, id = '', told = '', carried
  // Somebody put the script on the page twice.
  if (before.click) return
  if (allowed == null) allowed = tag.consent != 'required' && !navigator.globalPrivacyControl

  // What is kept, after keeping a value for some days if one is given. A page in a sandbox may not even ask.
  const cookie = (value, days) => {
    try {
      if (days != null) page.cookie = NAME + '=' + value + ';path=/;samesite=lax;max-age=' + days * 86400 + (here.protocol == 'https:' ? ';secure' : '') + (tag.domain ? ';domain=' + tag.domain : '')
      return clickIn(' ' + page.cookie)
    } catch (error) {
      return ''
    }
  }

  const give = node => {
    const pays = /stripe/.test(node.localName + node.host), to = node.dataset.koc || (pays ? 'client_reference_id' : NAME), mark = to + '='
    if (node.elements) {
      const field = node.querySelector('[name="' + to + '"]') || id && node.appendChild(Object.assign(page.createElement('input'), {type: 'hidden', name: to}))
      if (field) field.value = id
    } else if (node.host) {
      // A link that carries the id to the shop's next page: not to anybody else's, nor to a place on this one.
      if (!node.matches(TAKERS) && (node.host != here.host || node.pathname + node.search == here.pathname + here.search)) return
      let query = node.koc == id ? node.search : node.search.replace(mark + node.koc, '')
      // What the shop wrote there itself stays.
      if (id && !('&' + query.slice(1)).includes('&' + mark)) query += (query ? '&' : '?') + mark + (node.koc = id)
      if (query != node.search) node.search = query
    } else if (pays && (node.koc || !node.getAttribute('client-reference-id'))) {
      node.setAttribute('client-reference-id', node.koc = id)
    }
  }
  const giveAll = () => page.querySelectorAll(TAKERS + (carried ? ',a[href]' : '')).forEach(give)

  const tell = () => {
    const old = cookie(), shop = window.Shopify
    // Going back to an older landing page, or loading one anew, is no new click.
    const now = allowed ? old && (performance.navigation || {}).type ? old : landed || old : ''
    if (now != old && now) carried = carried || cookie(now, Math.min(Math.max(+tag.days || 30, 1), 365)) != now
    if (now != id) page.dispatchEvent(new CustomEvent('koc:click', {detail: id = now}))
    giveAll()
    if (shop && id != told) {
      const cart = (shop.routes || {root: '/'}).root + 'cart'
      told = id
      fetch(cart + '.js').then(answer => answer.json()).then(it => (it.attributes[NAME] || '') != id && fetch(cart + '/update.js', {method: 'POST', body: new URLSearchParams([['attributes[' + NAME + ']', id]])})).catch(() => '')
    }
  }

  window.koc = {
    click: () => id,
    consent: yes => {
      allowed = yes
      told = null
      if (!yes) cookie('', 0)
      tell()
    }
  }
  tell()
  page.addEventListener('DOMContentLoaded', tell);
  ['pointerdown', 'focusin', 'click', 'submit'].forEach(one => page.addEventListener(one, giveAll, true))
})()
