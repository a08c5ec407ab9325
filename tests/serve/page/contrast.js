() => {
    const channels = (colour) => {
        const found = colour.match(/[\d.]+/g).map(Number);
        return { rgb: found.slice(0, 3), alpha: found.length > 3 ? found[3] : 1 };
    };
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = (node) => {
        for (let at = node; at; at = at.parentElement) {
            const { rgb, alpha } = channels(getComputedStyle(at).backgroundColor);
            if (alpha === 1) return rgb;
        }
        return [255, 255, 255];
    };
    const poor = [];
    let seen = 0;
    for (const node of document.querySelectorAll('body *')) {
        const hasText = [...node.childNodes].some((each) => each.nodeType === 3 && each.data.trim()) || node.placeholder;
        if (!hasText || !node.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
        if (node.closest('.visually-hidden, .skip')) continue;
        seen += 1;
        const style = getComputedStyle(node, node.placeholder && !node.value ? '::placeholder' : null);
        const [a, b] = [light(channels(style.color).rgb), light(behind(node))].sort((x, y) => y - x);
        const size = parseFloat(style.fontSize);
        const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < (isLarge ? 3 : 4.5)) poor.push(`${node.className || node.tagName}: ${ratio.toFixed(2)}`);
    }
    return [seen, poor];
}
