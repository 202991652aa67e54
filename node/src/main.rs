//! The `teahouse` command.

fn main() -> std::process::ExitCode {
    // Before any thread is started: the child locks itself in.
    if let Some(code) = teahouse_node::programs::as_child() {
        return code;
    }
    teahouse_node::cli::run(std::env::args_os())
}
