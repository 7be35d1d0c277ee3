/** Not the global one: a program can replace it by that of a library, whose `allSettled` and `any` have other results. */
export const NativePromise = (async () => {})().constructor as PromiseConstructor
