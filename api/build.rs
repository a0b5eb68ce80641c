//! A release build holds the dashboard's files, so it is built again when they change. A debug build reads them from
//! disk at run time and need not be.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        println!("cargo::rerun-if-changed=../dashboard/dist");
    }
}
