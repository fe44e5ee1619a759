use super::*;
use crate::calib::product::tests::random;
use crate::mtz::solver::hessian::Scaled;
use crate::mtz::solver::neuron_set::join_sets;
use crate::mtz::solver::pair_cost::Metric;
use ndarray::Array2;
use ndarray_linalg::Inverse;

const NEURONS: usize = 3;
const COMMON: usize = 4;
const OPTIONS: SolverOptions =
    SolverOptions { compensates: true, metric: Metric::Hessian, damping: 1e-9 };

/// A layer with some of the common inputs, then private inputs, and a bias.
struct Net {
    common: Vec<usize>,
    private: usize,
    hessian: Array2<f64>,
    weights: Array2<f64>,
    alpha: f64,
}

impl Net {
    fn new(common: &[usize], private: usize, alpha: f64, seed: u64) -> Net {
        let columns = common.len() + private + 1;
        let mut rows = random(40, columns, seed);
        rows.column_mut(columns - 1).fill(1.0);
        let hessian = rows.t().dot(&rows) / 40.0;
        let weights = random(NEURONS, columns, seed ^ 99).mapv(|w| f64::from(w as f32));
        Net { common: common.to_vec(), private, hessian, weights, alpha }
    }

    fn stats(&self) -> LayerStats {
        let hessian = Scaled::new(self.hessian.clone(), 1.0);
        LayerStats {
            observed: Observations::Means { hessian, targets: None, count: 40 },
            weights: self.weights.mapv(|w| w as f32).into_shared(),
        }
    }

    fn inputs(&self) -> LayerInputs {
        let bias = (COMMON, self.weights.ncols() - 1);
        let columns = self.common.iter().copied().zip(0..).chain([bias]).collect();
        LayerInputs { columns, constant: COMMON, has_bias: true }
    }
}

/// Joins all nets, neuron by neuron, and returns the weights that each layer gets.
fn joined(nets: &[Net]) -> Vec<Array2<f32>> {
    let (mut states, mut sets) = (Vec::new(), Vec::new());
    for (at, net) in nets.iter().enumerate() {
        let (stats, inputs) = (net.stats(), net.inputs());
        let (set, gain) = inputs.neuron_set(at, &stats, net.alpha, OPTIONS).unwrap();
        states.push(LayerState::new(stats, inputs, gain, false));
        sets.push(set);
    }
    let all = |_: &[NeuronSet], _: &NeuronSet, _: &mut [_]| {
        Ok(vec![(0..NEURONS).map(|n| (n, n)).collect::<Vec<_>>()])
    };
    let sets = join_sets(sets, false, OPTIONS, all).unwrap();
    let mut holders = vec![0; COMMON];
    nets.iter().flat_map(|net| &net.common).for_each(|input| holders[*input] += 1);
    sets.iter().for_each(|set| settle(set, &holders, &mut states, OPTIONS).unwrap());
    states.into_iter().map(|state| state.stats.weights.to_owned()).collect()
}

/// The weights of least total error with equal weights from common inputs: one least-squares problem
/// over all nets.
fn stacked(nets: &[Net]) -> Vec<Array2<f64>> {
    let mut size = COMMON + 1;
    let mut places: Vec<Vec<usize>> = Vec::new();
    for net in nets {
        let private = size..size + net.private;
        size += net.private;
        places.push(net.common.iter().copied().chain(private).chain([COMMON]).collect());
    }
    let (mut matrix, mut pull) = (Array2::eye(size) * 1e-12, Array2::zeros((size, NEURONS)));
    for (net, places) in nets.iter().zip(&places) {
        let own = &net.hessian * net.alpha;
        let wanted = own.dot(&net.weights.t());
        for (i, row) in places.iter().enumerate() {
            places.iter().enumerate().for_each(|(j, c)| matrix[(*row, *c)] += own[(i, j)]);
            (0..NEURONS).for_each(|n| pull[(*row, n)] += wanted[(i, n)]);
        }
    }
    let solution = matrix.inv().unwrap().dot(&pull);
    let of = |places: &Vec<usize>| solution.select(Axis(0), places).reversed_axes();
    places.iter().map(of).collect()
}

#[test]
fn nets_with_unequal_inputs_join_as_in_one_stacked_least_squares_problem() {
    let cases = [
        vec![Net::new(&[0, 1, 2, 3], 0, 0.5, 1), Net::new(&[0, 1, 2, 3], 0, 0.5, 2)],
        vec![Net::new(&[0, 1, 2], 2, 0.7, 3), Net::new(&[0, 1, 2], 1, 0.3, 4)],
        vec![
            Net::new(&[0, 1, 2], 0, 0.2, 5),
            Net::new(&[1, 2, 3], 1, 0.5, 6),
            Net::new(&[0, 2, 3], 2, 0.3, 7),
        ],
        vec![
            Net::new(&[0, 1], 1, 0.25, 8),
            Net::new(&[0, 1, 2], 1, 0.25, 9),
            Net::new(&[1, 2, 3], 0, 0.25, 10),
            Net::new(&[0, 3], 2, 0.25, 11),
        ],
    ];
    for (case, nets) in cases.iter().enumerate() {
        for (got, wanted) in joined(nets).iter().zip(stacked(nets)) {
            let off = (got.mapv(f64::from) - &wanted)
                .mapv(f64::abs)
                .into_iter()
                .max_by(f64::total_cmp)
                .unwrap_or(0.0);
            assert!(off < 1e-4, "case {case} is off by {off}: {got} {wanted}");
        }
    }
}

#[test]
fn errors_are_those_of_the_weights_that_changed() {
    let nets = [Net::new(&[0, 1, 2], 1, 0.5, 12), Net::new(&[0, 1, 2], 2, 0.5, 13)];
    let apart = nets[0].stats();
    let inputs = nets[0].inputs();
    let (set, gain) = inputs.neuron_set(0, &apart, 0.5, OPTIONS).unwrap();
    let mut states = [LayerState::new(apart, inputs, gain, true)];
    // A set of one net changes nothing.
    settle(&set, &[2; COMMON], &mut states, OPTIONS).unwrap();
    assert_eq!(states[0].row_errors(), Array1::<f64>::zeros(NEURONS));
    assert_eq!(states[0].fitted(), states[0].stats.weights);
    let [together, _] = joined(&nets).try_into().unwrap();
    let change = together.mapv(f64::from) - &nets[0].weights;
    assert!(change.rows().into_iter().all(|row| row.dot(&nets[0].hessian).dot(&row) > 1e-6));
}
