//! Runs the SFU as a process of its own.
fn main() -> std::process::ExitCode {
    offhook_runtime::main(&offhook_sfu::SFU)
}
