//! What a net answers: the class of each sample, or of each position of one.

use std::hash::{DefaultHasher, Hash, Hasher};

use ndarray::{Axis, CowArray, IxDyn};

use crate::ir::{Dim, Graph, ValueId};
use crate::runtime::HostArray;

/// How the answers of a net are read from its first output.
///
/// Several scores per position answer with the place of the largest. One number per position is an answer if
/// it is the probability of a yes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// The least number that means yes.
    yes: Option<f32>,
    /// The number of classes, if the output's type tells it.
    classes: Option<usize>,
}

/// Operators that keep the order of numbers, so that they may follow the final sigmoid.
const LAYOUT: [&str; 6] = ["Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Cast"];

impl Reading {
    /// The reading of a graph's outputs: a single number is a probability if a sigmoid returns it.
    pub fn of(graph: &Graph) -> Reading {
        let first = graph.outputs.first();
        first.map_or_else(Reading::default, |output| Reading::of_output(graph, *output))
    }

    /// The reading of one output.
    pub(crate) fn of_output(graph: &Graph, output: ValueId) -> Reading {
        let yes = ends_in_sigmoid(graph, output).then_some(0.5);
        let classes = match scores(graph, output) {
            Some(1) => yes.map(|_| 2),
            several => several,
        };
        Reading { yes, classes }
    }

    /// The reading of scores of which a single one means yes from zero on, as before a sigmoid.
    pub(crate) fn of_logits() -> Reading {
        Reading { yes: Some(0.0), classes: None }
    }

    /// The number of classes that answers are of, if the output's type tells it.
    pub(crate) fn classes(self) -> Option<usize> {
        self.classes
    }

    /// The answers of an output, one per position: places of the largest scores, numbers of classes, 1 for
    /// yes and 0 for no, or a number for each text. `None` if the output holds no answers.
    pub fn answers(self, output: &HostArray) -> Option<Vec<i64>> {
        if let HostArray::Text(names) = output {
            return Some(names.iter().map(number).collect());
        }
        if !output.dtype().is_float() {
            return output.clone().integers().map(|integers| integers.iter().copied().collect());
        }
        let scores = without_last_ones(match output.f32_view() {
            Some(view) => CowArray::from(view),
            None => CowArray::from(output.as_f32().ok()?),
        });
        let last = scores.ndim().checked_sub(1)?;
        if last > 0 && scores.len_of(Axis(last)) > 1 {
            return Some(scores.lanes(Axis(last)).into_iter().map(largest).collect());
        }
        let yes = self.yes?;
        Some(scores.iter().map(|score| i64::from(*score >= yes)).collect())
    }

    /// The answers of an output, if there is one for each of so many samples, and labels can be compared
    /// with them.
    pub fn of_samples(self, output: &HostArray, samples: usize) -> Option<Vec<i64>> {
        let is_text = matches!(output, HostArray::Text(_));
        let is_row_each = output.rows() == Some(samples);
        let answers = self.answers(output).filter(|_| !is_text && is_row_each);
        answers.filter(|answers| answers.len() == samples)
    }
}

/// Whether a value is a sigmoid's, up to its layout and type.
fn ends_in_sigmoid(graph: &Graph, mut value: ValueId) -> bool {
    while let Some(node) = graph.producer(value).map(|id| graph.node(id)) {
        if node.is("Sigmoid") {
            return true;
        }
        let before = node.input(0).filter(|_| LAYOUT.iter().any(|op| node.is(op)));
        let Some(before) = before else { return false };
        value = before;
    }
    false
}

/// The number of scores of each sample, if an output has a known number of them at one position.
fn scores(graph: &Graph, output: ValueId) -> Option<usize> {
    let ty = graph.value(output).ty.as_ref().filter(|ty| ty.dtype.is_float())?;
    let of_sample = ty.shape.as_ref()?.iter().skip(1);
    let sizes: Vec<usize> = of_sample.map(Dim::known).collect::<Option<_>>()?;
    let mut several = sizes.into_iter().filter(|size| *size != 1);
    let count = several.next().unwrap_or(1);
    several.next().is_none().then_some(count)
}

/// The array without axes of size 1 behind the second axis.
fn without_last_ones(mut array: CowArray<'_, f32, IxDyn>) -> CowArray<'_, f32, IxDyn> {
    while array.ndim() > 2 && array.len_of(Axis(array.ndim() - 1)) == 1 {
        let last = Axis(array.ndim() - 1);
        array = array.index_axis_move(last, 0);
    }
    array
}

/// A number that stands for a text.
fn number(text: &String) -> i64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish().cast_signed()
}

/// The number of answers that differ from their labels.
pub fn misclassified(answers: &[i64], labels: &[i64]) -> usize {
    answers.iter().zip(labels).filter(|(answer, label)| answer != label).count()
}

/// The place of the first of the largest scores, NaN left out.
fn largest<'a>(scores: impl IntoIterator<Item = &'a f32>) -> i64 {
    let better = |best: (i64, f32), (i, v): (i64, &f32)| if *v > best.1 { (i, *v) } else { best };
    (0..).zip(scores).fold((0, f32::NEG_INFINITY), better).0
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, arr1, array};

    use super::*;
    use crate::ir::builder::GraphBuilder;

    fn floats<const N: usize, const M: usize>(rows: [[f32; M]; N]) -> HostArray {
        Array2::from(rows.to_vec()).into_dyn().into()
    }

    /// The reading of a net that ends in these operators.
    fn of(operators: &[&str]) -> Reading {
        let mut b = GraphBuilder::new("net", 13);
        let mut value = b.input("x", "n,1");
        for op in operators {
            value = b.op(op, op, &[value], []);
        }
        Reading::of(&b.build(&[value]).graph)
    }

    #[test]
    fn answers_are_largest_scores_or_integers() {
        let answers = |output: &HostArray| Reading::default().answers(output);
        assert_eq!(answers(&floats([[0.0, 1.0], [2.0, -1.0]])), Some(vec![1, 0]));
        assert_eq!(answers(&floats([[1.0, 1.0], [f32::NAN, -1.0]])), Some(vec![0, 1]));
        assert_eq!(answers(&array![[7i64], [2]].into_dyn().into()), Some(vec![7, 2]));
        assert_eq!(answers(&array![[[[0.0f32]], [[1.0]]]].into_dyn().into()), Some(vec![1]));
        assert_eq!(answers(&array![0.0f32, 1.0].into_dyn().into()), None);
        assert_eq!(answers(&array![[0.0f32], [1.0]].into_dyn().into()), None);
    }

    #[test]
    fn one_probability_says_yes_or_no() {
        let scores = floats([[0.2], [0.5], [0.9]]);
        assert_eq!(of(&["Sigmoid", "Identity"]).answers(&scores), Some(vec![0, 1, 1]));
        assert_eq!(of(&["Sigmoid"]).of_samples(&scores, 3), Some(vec![0, 1, 1]));
        assert_eq!(of(&["Sigmoid", "Neg"]).answers(&scores), None);
        assert_eq!(Reading::of_logits().answers(&scores), Some(vec![1, 1, 1]));
        let two = floats([[0.2, 0.4], [0.9, 0.1]]);
        assert_eq!(of(&["Sigmoid"]).answers(&two), Some(vec![1, 0]));
    }

    #[test]
    fn the_type_of_the_output_tells_the_number_of_classes() {
        let classes = |dims: &str, operators: &[&str]| {
            let mut b = GraphBuilder::new("net", 13);
            let mut value = b.input("x", dims);
            for op in operators {
                value = b.op(op, op, &[value], []);
            }
            let mut model = b.build(&[value]);
            crate::canon::infer_types(&mut model.graph).unwrap();
            Reading::of(&model.graph).classes()
        };
        assert_eq!(classes("n,10", &["Softmax"]), Some(10));
        assert_eq!(classes("n,10,1,1", &["Relu"]), Some(10));
        assert_eq!(classes("n,1", &["Sigmoid"]), Some(2));
        assert_eq!(classes("n,1", &["Relu"]), None);
        assert_eq!(classes("n,5,10", &["Relu"]), None);
        assert_eq!(classes("n,k", &["Relu"]), None);
    }

    #[test]
    fn names_of_classes_are_told_apart_but_are_no_labels() {
        let names = arr1(&["cat", "dog", "cat"].map(str::to_owned));
        let names = HostArray::from(names.into_dyn());
        let answers = Reading::default().answers(&names).unwrap();
        assert!(answers[0] == answers[2] && answers[0] != answers[1]);
        assert_eq!(Reading::default().of_samples(&names, 3), None);
    }
}
