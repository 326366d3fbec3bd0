//! Which of its formats each tensor takes, so that all together stay within a number of bytes and cost least.
//!
//! The steps along the lower convex hulls of all tensors' (bytes, cost), the one that gains most for its bytes first,
//! make a row of allocations, each the best there is for its own bytes (Lagrange's). Between two of them there is room
//! left: so every one of the row is also tried with one and with two tensors changed to any other of their variants, up
//! or down. What is tried does not depend on the budget, and the cheapest that fits is taken: so a larger budget never
//! costs more.

/// One way to store a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variant {
    /// What it takes.
    pub bytes: u64,
    /// What it costs in quality: a finite number.
    pub cost: f64,
}

/// One variant of each tensor, and what they come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// The number of the variant, for each tensor.
    pub chosen: Vec<usize>,
    /// All their bytes.
    pub bytes: u64,
    /// All their costs.
    pub cost: f64,
}

/// The least budget that [`allocate`] can meet, and the next that it can fill: the same where there is no other.
pub fn smallest_two(tensors: &[Vec<Variant>]) -> [u64; 2] {
    let sorted = |variants: &Vec<Variant>| {
        let mut bytes: Vec<u64> = variants.iter().map(|variant| variant.bytes).collect();
        bytes.sort_unstable();
        bytes.dedup();
        bytes
    };
    let all: Vec<Vec<u64>> = tensors.iter().map(sorted).collect();
    let least = all.iter().filter_map(|bytes| bytes.first()).sum();
    let step = all.iter().filter_map(|bytes| Some(bytes.get(1)? - bytes[0])).min();
    [least, least + step.unwrap_or(0)]
}

/// The cheapest allocation that was found within `budget` bytes; none where even the smallest variants take more. Each
/// tensor has at least one variant. Of equal ones the first that is tried is taken, so that the result is always the
/// same.
pub fn allocate(tensors: &[Vec<Variant>], budget: u64) -> Option<Allocation> {
    let smallest = |variants: &Vec<Variant>| {
        let order = |a: &Variant, b: &Variant| a.bytes.cmp(&b.bytes).then(a.cost.total_cmp(&b.cost));
        variants.iter().enumerate().min_by(|a, b| order(a.1, b.1)).map(|(number, _)| number)
    };
    let mut chosen = tensors.iter().map(smallest).collect::<Option<Vec<usize>>>()?;
    let mut best = Best { budget, cost: f64::INFINITY, chosen: None };
    best.near(tensors, &chosen);
    for (tensor, number) in steps(tensors, &chosen) {
        chosen[tensor] = number;
        best.near(tensors, &chosen);
    }
    let chosen = best.chosen?;
    let (bytes, cost) = totals(tensors, &chosen);
    Some(Allocation { chosen, bytes, cost })
}

fn totals(tensors: &[Vec<Variant>], chosen: &[usize]) -> (u64, f64) {
    let variants = tensors.iter().zip(chosen).map(|(variants, &number)| variants[number]);
    variants.fold((0, 0.0), |(bytes, cost), variant| (bytes + variant.bytes, cost + variant.cost))
}

/// The corners of every tensor's hull behind the first, in the order of what they gain for each byte.
fn steps(tensors: &[Vec<Variant>], first: &[usize]) -> Vec<(usize, usize)> {
    let mut steps: Vec<(f64, usize, usize)> = Vec::new();
    for (tensor, (variants, &first)) in tensors.iter().zip(first).enumerate() {
        let mut at = variants[first];
        // The steepest way down from each corner leads to the next; of equally steep ones the shortest.
        let slope = |from: Variant, to: &Variant| (from.cost - to.cost) / (to.bytes - from.bytes) as f64;
        loop {
            let below = |to: &Variant| to.bytes > at.bytes && to.cost < at.cost;
            let reachable = variants.iter().enumerate().filter(|(_, to)| below(to));
            let order =
                |a: &Variant, b: &Variant| slope(at, a).total_cmp(&slope(at, b)).then(b.bytes.cmp(&a.bytes));
            let Some((number, next)) = reachable.max_by(|a, b| order(a.1, b.1)) else { break };
            steps.push((slope(at, next), tensor, number));
            at = *next;
        }
    }
    // Stable: of one tensor's corners the earlier stays first, its slope being no less.
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    steps.into_iter().map(|(_, tensor, number)| (tensor, number)).collect()
}

/// A tensor's change from the variant that it has to another.
#[derive(Clone, Copy)]
struct Change {
    tensor: usize,
    number: usize,
    bytes: i128,
    gain: f64,
}

/// The cheapest so far.
struct Best {
    budget: u64,
    cost: f64,
    chosen: Option<Vec<usize>>,
}

impl Best {
    /// Tries an allocation, and all that differ from it in one or two tensors.
    fn near(&mut self, tensors: &[Vec<Variant>], chosen: &[usize]) {
        let (bytes, cost) = totals(tensors, chosen);
        let room = i128::from(self.budget) - i128::from(bytes);
        self.take(room >= 0, cost, chosen, &[]);
        let mut changes = changes(tensors, chosen);
        let most = changes.iter().fold(0.0, |most: f64, change| most.max(change.gain));
        if cost - 2.0 * most >= self.cost {
            return; // two changes gain no more than twice the most
        }
        changes.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(b.gain.total_cmp(&a.gain)));
        for change in &changes {
            self.take(change.bytes <= room, cost - change.gain, chosen, &[*change]);
        }
        // Of the changes up to each: the two of different tensors that gain most.
        let mut leaders: Vec<[Option<Change>; 2]> = Vec::with_capacity(changes.len());
        let mut two = [None; 2];
        for change in &changes {
            two = with(two, *change);
            leaders.push(two);
        }
        for change in &changes {
            let fit = changes.partition_point(|other| other.bytes <= room - change.bytes);
            let Some(two) = fit.checked_sub(1).map(|last| leaders[last]) else { continue };
            if let Some(other) = two.into_iter().flatten().find(|other| other.tensor != change.tensor) {
                self.take(true, cost - change.gain - other.gain, chosen, &[*change, other]);
            }
        }
    }

    fn take(&mut self, fits: bool, cost: f64, chosen: &[usize], changes: &[Change]) {
        if fits && cost < self.cost {
            let mut chosen = chosen.to_vec();
            changes.iter().for_each(|change| chosen[change.tensor] = change.number);
            (self.cost, self.chosen) = (cost, Some(chosen));
        }
    }
}

fn changes(tensors: &[Vec<Variant>], chosen: &[usize]) -> Vec<Change> {
    let of_tensor = |(tensor, (variants, &now)): (usize, (&Vec<Variant>, &usize))| {
        let from = variants[now];
        let change = move |(number, to): (usize, &Variant)| Change {
            tensor,
            number,
            bytes: i128::from(to.bytes) - i128::from(from.bytes),
            gain: from.cost - to.cost,
        };
        let others = variants.iter().enumerate().filter(|(number, _)| *number != now).map(change);
        others.collect::<Vec<Change>>()
    };
    tensors.iter().zip(chosen).enumerate().flat_map(of_tensor).collect()
}

/// The two of different tensors that gain most, with one more to choose from.
fn with(two: [Option<Change>; 2], more: Change) -> [Option<Change>; 2] {
    let [first, second] = two;
    let over = |other: Option<Change>| other.is_none_or(|other| more.gain > other.gain);
    match first {
        Some(leader) if leader.tensor == more.tensor => match over(first) {
            true => [Some(more), second],
            false => two,
        },
        _ if over(first) => [Some(more), first],
        _ if second.is_some_and(|other| other.tensor == more.tensor) || over(second) => match over(second) {
            true => [first, Some(more)],
            false => two,
        },
        _ => two,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from 0 to 1 that are always the same.
    fn numbers(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    /// Tensors with costs that fall about fourfold a bit, as formats' do, some variants out of order.
    fn tensors(count: usize, seed: u64) -> Vec<Vec<Variant>> {
        let mut number = numbers(seed);
        let mut tensor = || {
            let weights = 32 * (1 + (number() * 6.0) as u64);
            let gain = number() * number() + 1e-3;
            let bits = [2.6, 3.4, 4.25, 4.5, 5.5, 6.6];
            let variant = |bits: f64| Variant {
                bytes: (weights as f64 * bits) as u64 / 32 * 32,
                cost: gain * weights as f64 * (-1.3 * bits).exp() * (0.8 + 0.4 * number()),
            };
            bits.into_iter().map(variant).collect::<Vec<_>>()
        };
        (0..count).map(|_| tensor()).collect()
    }

    fn by_trying_all(tensors: &[Vec<Variant>], budget: u64) -> Option<f64> {
        let Some((first, rest)) = tensors.split_first() else { return Some(0.0) };
        let with =
            |variant: &Variant| Some(variant.cost + by_trying_all(rest, budget.checked_sub(variant.bytes)?)?);
        first.iter().filter_map(with).min_by(f64::total_cmp)
    }

    #[test]
    fn nothing_is_much_better_and_the_budget_is_kept() {
        let (mut exact, mut tried) = (0, 0);
        for seed in 0..40 {
            let tensors = tensors(6, seed);
            let [least, second] = smallest_two(&tensors);
            let most: u64 = tensors.iter().map(|t| t.iter().map(|v| v.bytes).max().unwrap()).sum();
            assert!(allocate(&tensors, least - 1).is_none());
            assert_eq!(allocate(&tensors, least).unwrap().bytes, least);
            assert!(second > least && by_trying_all(&tensors, second).is_some());
            for budget in (least..most + 64).step_by(32 + seed as usize) {
                let found = allocate(&tensors, budget).unwrap();
                assert!(found.bytes <= budget);
                assert_eq!((found.bytes, found.cost), totals(&tensors, &found.chosen));
                let best = by_trying_all(&tensors, budget).unwrap();
                assert!(found.cost <= best * 1.25, "seed {seed}, budget {budget}: {} {best}", found.cost);
                tried += 1;
                exact += usize::from(found.cost <= best * (1.0 + 1e-12));
            }
        }
        assert!(exact * 10 >= tried * 9, "{exact} of {tried} are the best there is");
    }

    /// Two changes reach every allocation of two tensors.
    #[test]
    fn two_tensors_are_allocated_exactly() {
        for seed in 100..160 {
            let tensors = tensors(2, seed);
            for budget in (smallest_two(&tensors)[0]..3000).step_by(40) {
                let found = allocate(&tensors, budget).unwrap();
                let best = by_trying_all(&tensors, budget).unwrap();
                assert!((found.cost - best).abs() <= 1e-12 * best, "seed {seed}, budget {budget}");
            }
        }
    }

    #[test]
    fn more_bytes_never_cost_more() {
        for seed in 200..203 {
            let tensors = tensors(20, seed);
            let least = smallest_two(&tensors)[0];
            let mut before = f64::INFINITY;
            for budget in (least..3 * least).step_by(97) {
                let found = allocate(&tensors, budget).unwrap();
                assert!(found.bytes <= budget && found.cost <= before * (1.0 + 1e-12), "seed {seed}");
                assert_eq!(allocate(&tensors, budget).unwrap(), found);
                before = found.cost;
            }
        }
    }

    #[test]
    fn one_variant_is_no_choice() {
        let only = vec![vec![Variant { bytes: 64, cost: 1.0 }]; 2];
        assert_eq!(smallest_two(&only), [128, 128]);
        let found = allocate(&only, 500).unwrap();
        assert_eq!(found, Allocation { chosen: vec![0, 0], bytes: 128, cost: 2.0 });
        assert_eq!(allocate(&[], 0).unwrap().chosen, Vec::<usize>::new());
    }
}
