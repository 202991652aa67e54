//! The `teahouse` command.

fn main() -> std::process::ExitCode {
    teahouse_node::cli::run(std::env::args_os())
}
