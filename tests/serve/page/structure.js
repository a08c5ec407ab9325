() => {
    const found = [];
    const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
    ids.filter((id, index) => ids.indexOf(id) !== index).forEach((id) => found.push(`id twice: ${id}`));
    for (const node of document.querySelectorAll('[aria-controls], [aria-labelledby], [aria-describedby], label[for]')) {
        for (const name of ['aria-controls', 'aria-labelledby', 'aria-describedby', 'for'])
            for (const id of (node.getAttribute(name) ?? '').split(' ').filter(Boolean))
                if (!document.getElementById(id)) found.push(`${name} leads nowhere: ${id}`);
    }
    for (const node of document.querySelectorAll('button, a[href], input, select, textarea, summary, [tabindex="0"]')) {
        const label = node.getAttribute('aria-label') ?? node.labels?.[0]?.textContent ?? '';
        if (!(label + node.textContent).trim()) found.push(`no name: ${node.outerHTML.slice(0, 80)}`);
        if (node.tabIndex > 0) found.push(`tabindex of its own: ${node.outerHTML.slice(0, 80)}`);
        if (node.parentElement.closest('button, a')) found.push(`nested: ${node.outerHTML.slice(0, 80)}`);
    }
    document.querySelectorAll('img:not([alt]), svg:not([aria-hidden])').forEach((node) => found.push(node.outerHTML));
    const shown = [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].filter((node) => node.checkVisibility());
    if (document.querySelectorAll('h1').length !== 1) found.push('not one h1');
    if (shown[0]?.tagName !== 'H1') found.push('headings begin elsewhere');
    for (const tag of ['main', 'header', 'aside', 'form[aria-label]'])
        if (document.querySelectorAll(tag).length < 1) found.push(`no ${tag}`);
    if (!document.documentElement.lang) found.push('no language');
    if (!document.title) found.push('no title');
    return found;
}
