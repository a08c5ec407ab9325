() => {
    const found = [];
    for (const node of document.querySelectorAll('.turns *')) {
        if (/^(script|iframe|img|style|object|embed|form|input|base|meta|link)$/i.test(node.tagName)) found.push(node.tagName);
        for (const { name, value } of node.attributes) {
            if (name.startsWith('on') || name === 'style' || name === 'srcdoc') found.push(name);
            if (name === 'href' && !/^(https?:|#i-)/.test(value)) found.push(value);
        }
    }
    return found;
}
