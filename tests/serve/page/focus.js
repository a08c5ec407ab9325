() => {
    const node = document.activeElement;
    const style = getComputedStyle(node);
    const box = getComputedStyle(node.closest('.box') ?? node);
    const isSeen = (style.outlineStyle !== 'none' && style.outlineWidth !== '0px') || box.boxShadow !== 'none';
    return [node.id || node.className || node.tagName, isSeen && node.checkVisibility({opacityProperty: true})];
}
