//! Which outputs one run of the model serves.

use crate::sink::Shape;

/// The outputs whose tensors are all equally wide, together: what their matrices are fed with is the same.
pub(super) fn equally_wide(outputs: &[Vec<Shape>]) -> Vec<Vec<&[Shape]>> {
    let mut runs: Vec<Vec<&[Shape]>> = Vec::new();
    for shapes in outputs {
        let alike = |other: &[Shape]| {
            other.len() == shapes.len() && other.iter().zip(shapes).all(|(a, b)| a.columns == b.columns)
        };
        match runs.iter_mut().find(|run| alike(run[0])) {
            Some(run) => run.push(shapes),
            None => runs.push(vec![shapes]),
        }
    }
    runs
}

/// The shapes that a tensor is quantized to in outputs, each once.
pub(super) fn quantized(outputs: &[&[Shape]], tensor: usize) -> Vec<Shape> {
    let mut found = Vec::new();
    for shape in outputs.iter().filter_map(|shapes| shapes.get(tensor)) {
        if shape.format.is_quantized() && !found.contains(shape) {
            found.push(*shape);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use quant::Format::{self, F32, Q4_K, Q6_K};

    use super::*;

    #[test]
    fn outputs_are_run_for_together_where_their_widths_are_the_same() {
        let shape = |format: Format, columns| Shape { format, rows: 8, columns };
        let output = |format, ffn| vec![shape(F32, 1), shape(format, 256), shape(Q6_K, ffn)];
        let outputs = [output(Q4_K, 512), output(Q6_K, 480), output(Q6_K, 512), output(Q4_K, 512)];
        let runs = equally_wide(&outputs);
        assert_eq!(runs, [vec![&outputs[0][..], &outputs[2], &outputs[3]], vec![&outputs[1]]]);
        let of = |tensor| quantized(&runs[0], tensor);
        assert_eq!(of(0), []);
        assert_eq!(of(1), [shape(Q4_K, 256), shape(Q6_K, 256)]);
        assert_eq!(of(2), [shape(Q6_K, 512)]);
        assert_eq!(of(3), [], "no such tensor");
    }
}
