//! Prints the names of the backends that this machine has, a line each.

fn main() {
    for backend in quant::Backend::available() {
        println!("{backend}");
    }
}
