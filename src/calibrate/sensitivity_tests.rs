use std::num::NonZero;
use std::ops::Range;
use std::path::Path;

use super::*;
use crate::forward::Matrix;
use crate::model::ModelSource;

fn model(name: &str) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/models").join(name);
    Model::open(&ModelSource { folder, ..ModelSource::default() }).unwrap()
}

/// The model with a pattern added to one of its matrices.
struct Nudged<'a> {
    tensors: Planned<'a>,
    matrix: String,
    scale: f32,
}

struct Nudge<'a> {
    inner: Box<dyn Matrix + 'a>,
    scale: f32,
}

fn pattern(row: usize, column: usize) -> f32 {
    ((row * 31 + column * 17) % 7) as f32 / 7.0 - 0.4
}

impl Tensors for Nudged<'_> {
    fn holds(&self, name: &str) -> bool {
        self.tensors.holds(name)
    }

    fn matrix(&self, name: &str, rows: Option<usize>, columns: usize) -> Result<Box<dyn Matrix + '_>> {
        let inner = self.tensors.matrix(name, rows, columns)?;
        Ok(if name == self.matrix { Box::new(Nudge { inner, scale: self.scale }) } else { inner })
    }
}

impl Matrix for Nudge<'_> {
    fn name(&self) -> (&Path, &str) {
        self.inner.name()
    }

    fn rows(&self) -> usize {
        self.inner.rows()
    }

    fn columns(&self) -> usize {
        self.inner.columns()
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        self.inner.read(rows.clone(), out)?;
        for (row, out) in rows.zip(out.chunks_mut(self.inner.columns())) {
            out.iter_mut().enumerate().for_each(|(column, x)| *x += self.scale * pattern(row, column));
        }
        Ok(())
    }
}

/// Two texts of different lengths in one run; every matrix and the inputs are moved a little, and what comes out of the
/// layer moves as the gradients say.
#[test]
fn a_layer_backwards_is_its_derivative() {
    let nobody = |_: &[&str], _: &Activations| Ok(());
    for name in ["tiny-chatglm3", "tiny-chatglm2-32k"] {
        let model = model(name);
        let tokens: Vec<u32> = (0..25).map(|i| i * 7 % 900).collect();
        let llama = |matrix: &str, scale: f32| Llama {
            tensors: Nudged { tensors: Planned::new(&model, &nobody), matrix: matrix.to_owned(), scale },
            sizes: sizes(&model),
            window: 16,
        };
        let plain = llama("", 0.0);
        let x = plain.embed(&tokens).unwrap();
        let wanted = Array2::from_shape_fn(x.dim(), |(i, t)| pattern(i, t * 3));
        let loss = |llama: &Llama<Nudged>, x: Activations| -> f64 {
            let out = llama.layer(0, x).unwrap();
            out.iter().zip(&wanted).map(|(a, b)| f64::from(a * b)).sum()
        };
        let mut told: BTreeMap<String, f64> = BTreeMap::new();
        let mut tell = |name: &str, x: &Activations, gradient: &Activations| {
            let of_weights = gradient.dot(&x.t());
            let along = of_weights.indexed_iter().map(|((r, c), g)| f64::from(g * pattern(r, c))).sum();
            assert!(told.insert(name.to_owned(), along).is_none());
            Ok(())
        };
        let back = plain.layer_back(0, &x, wanted.clone(), &mut tell).unwrap();
        let close = |name: &str, found: f64, expected: f64| {
            let off = (found - expected).abs();
            assert!(off <= 0.02 * expected.abs() + 0.02, "{name}: {found} {expected}");
        };
        let step = 1e-3;
        assert_eq!(told.len(), 7);
        for (name, along) in &told {
            let [up, down] = [step, -step].map(|scale| loss(&llama(name, scale), x.clone()));
            close(name, *along, (up - down) / f64::from(2.0 * step));
        }
        let way = Array2::from_shape_fn(x.dim(), |(i, t)| pattern(t, i) * 0.1);
        let along: f64 = back.iter().zip(&way).map(|(a, b)| f64::from(a * b)).sum();
        let [up, down] = [step, -step].map(|scale| loss(&plain, &x + &(&way * scale)));
        close("x", along, (up - down) / f64::from(2.0 * step));
    }
}

/// What is told of a tensor is about what quantizing it alone does, and no thread shows.
#[test]
fn the_divergence_is_what_a_change_brings() {
    let model = model("tiny-chatglm3");
    let sample = Sample {
        tokens: (0..1024).map(|i| i * 37 % 900).collect(),
        name: String::new(),
        hash: String::new(),
    };
    let formats = |target: &Target| match target.role() {
        Role::Vector => Vec::new(),
        _ => vec![quant::Format::Q4_0, quant::Format::Q8_0],
    };
    let trials: Vec<Trial> = model
        .plan
        .tensors
        .iter()
        .map(|target| Trial { columns: target.columns, formats: formats(target) })
        .collect();
    let run = |threads: usize| {
        let how = How { threads: NonZero::new(threads).unwrap(), backend: Backend::detect() };
        divergences(&model, &sample, &trials, how, &()).unwrap()
    };
    let found = run(1);
    assert_eq!(run(3), found, "threads show");
    for (target, costs) in model.plan.tensors.iter().zip(&found) {
        if let [four, eight] = costs[..] {
            assert!(eight > 0.0 && four > 30.0 * eight, "{}: {four} {eight}", target.name);
        }
    }
}
