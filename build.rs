//! Build script: the options that the addon needs from the linker.

fn main() {
    if std::env::var_os("CARGO_FEATURE_NODE").is_some() {
        napi_build::setup();
    }
    // A worker thread that ends unloads the addon; its helper threads would then run unmapped code.
    let system = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if system == "linux" {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
        // Not the older table beside it, which no loader of today reads.
        println!("cargo::rustc-cdylib-link-arg=-Wl,--hash-style=gnu");
    }
    // The crate `libc` links libiconv, and the addon calls nothing of it.
    if system == "macos" {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-dead_strip_dylibs");
    }
}
