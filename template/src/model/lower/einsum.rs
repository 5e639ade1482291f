//! Sums of products by letters: `https://onnx.ai/onnx/operators/onnx__Einsum.html`.
//!
//! The operands are joined from left to right. Each join is one product of matrices: letters of both that are needed
//! later are batches, letters of both that are not are summed over, the rest are rows and columns.

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{DType, Tensor};

use super::matmul::matmul;
use super::reduce::rows;
use super::{Family, Kernel, Node, kernel};
use crate::model::budget::Budget;
use crate::model::tensor::{bounded, lines, pick, strides};

pub(super) const OPS: Family = &[("Einsum", einsum)];

/// What names an axis: a letter, or a place in the ellipsis, counted from behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Batch(usize),
    Letter(char),
}

/// One operand or the result, as the equation writes it.
#[derive(Debug, Clone, PartialEq)]
struct Term {
    before: Vec<char>,
    /// What stands behind an ellipsis, if there is one.
    after: Option<Vec<char>>,
}

#[derive(Debug, Clone)]
struct Equation {
    operands: Vec<Term>,
    result: Option<Term>,
}

/// A tensor and the names of its axes.
struct Operand {
    tensor: Tensor,
    labels: Vec<Label>,
}

fn einsum(node: &Node) -> Result<Kernel> {
    let text = node.text("equation")?.context("its attribute \"equation\" is missing")?;
    let equation = Equation::read(text).with_context(|| format!("its equation {text:?}"))?;
    ensure!(
        equation.operands.len() == node.inputs(),
        "its equation {text:?} is of {} operands, and it has {}",
        equation.operands.len(),
        node.inputs()
    );
    kernel(move |args| equation.evaluate(&args.all()?, args.budget))
}

impl Term {
    fn read(text: &str) -> Result<Self> {
        let letters = |part: &str| {
            let wrong = part.chars().find(|letter| !letter.is_ascii_alphabetic());
            ensure!(wrong.is_none(), "has a {:?} where a letter belongs", wrong.unwrap_or_default());
            Ok(part.chars().collect::<Vec<_>>())
        };
        Ok(match text.split_once("...") {
            None => Self { before: letters(text)?, after: None },
            Some((before, after)) => Self { before: letters(before)?, after: Some(letters(after)?) },
        })
    }

    /// The names of so many axes.
    fn labels(&self, rank: usize) -> Result<Vec<Label>> {
        let named = self.before.len() + self.after.as_ref().map_or(0, Vec::len);
        let open = if self.after.is_some() { rank.checked_sub(named) } else { (rank == named).then_some(0) };
        let open = open.with_context(|| format!("names {named} axes of an operand with {rank}"))?;
        let letters = |letters: &[char]| letters.iter().copied().map(Label::Letter).collect::<Vec<_>>();
        let ellipsis = (0..open).rev().map(Label::Batch).collect();
        Ok([letters(&self.before), ellipsis, letters(self.after.as_deref().unwrap_or_default())].concat())
    }
}

impl Equation {
    fn read(text: &str) -> Result<Self> {
        let text: String = text.chars().filter(|one| !one.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let operands = left.split(',').map(Term::read).collect::<Result<_>>()?;
        Ok(Self { operands, result: right.map(Term::read).transpose()? })
    }

    fn evaluate(&self, tensors: &[&Tensor], budget: &Budget) -> Result<Tensor> {
        let terms = self.operands.iter().zip(tensors);
        let mut operands = terms
            .map(|(term, tensor)| Operand::new((*tensor).clone(), term.labels(tensor.rank())?))
            .collect::<Result<Vec<_>>>()?;
        let wanted = self.wanted(&operands)?;
        operands.reverse();
        let mut joined = operands.pop().context("it has no operand")?;
        while let Some(next) = operands.pop() {
            let later: Vec<Label> = operands.iter().flat_map(|one| &one.labels).chain(&wanted).copied().collect();
            joined = joined.join(&next, &later, budget)?;
        }
        joined.arranged(&wanted)
    }

    /// The names of the result's axes: where the equation does not say, those that stand only once, in alphabetic order.
    fn wanted(&self, operands: &[Operand]) -> Result<Vec<Label>> {
        let mut batches: Vec<Label> =
            operands.iter().flat_map(|one| &one.labels).filter(|one| matches!(one, Label::Batch(_))).copied().collect();
        batches.sort_unstable_by(|a, b| b.cmp(a));
        batches.dedup();
        if let Some(result) = &self.result {
            let open = if result.after.is_some() { batches.len() } else { 0 };
            let named = result.before.len() + result.after.as_ref().map_or(0, Vec::len);
            return result.labels(named + open);
        }
        let letters: Vec<char> = self
            .operands
            .iter()
            .flat_map(|term| term.before.iter().chain(term.after.iter().flatten()))
            .copied()
            .collect();
        let mut once: Vec<char> =
            letters.iter().filter(|one| letters.iter().filter(|other| other == one).count() == 1).copied().collect();
        once.sort_unstable();
        Ok(batches.into_iter().chain(once.into_iter().map(Label::Letter)).collect())
    }
}

impl Operand {
    /// A letter that stands twice takes the diagonal.
    fn new(tensor: Tensor, mut labels: Vec<Label>) -> Result<Self> {
        let mut tensor = tensor;
        while let Some((first, second)) = repeated(&labels) {
            tensor = diagonal(&tensor, first, second)?;
            labels.remove(second);
        }
        Ok(Self { tensor, labels })
    }

    fn size(&self, label: Label) -> usize {
        self.labels.iter().position(|one| *one == label).map_or(1, |at| self.tensor.dims()[at])
    }

    /// Summed over all that nobody else names.
    fn summed(&self, named: &[Label]) -> Result<Self> {
        let over: Vec<usize> = (0..self.labels.len()).filter(|at| !named.contains(&self.labels[*at])).collect();
        if over.is_empty() {
            return Ok(Self { tensor: self.tensor.clone(), labels: self.labels.clone() });
        }
        let (rows, dims) = rows(&self.tensor, &over, false)?;
        let dtype = self.tensor.dtype();
        let sums = if dtype.is_float() {
            lines(&rows.to_dtype(DType::F64)?, 1, 1, |line: &[f64], out: &mut Vec<f64>| out.push(line.iter().sum()))?
        } else {
            lines(&rows.to_dtype(DType::I64)?, 1, 1, |line: &[i64], out: &mut Vec<i64>| {
                out.push(line.iter().fold(0, |sum: i64, one| sum.wrapping_add(*one)));
            })?
        };
        let labels = self.labels.iter().filter(|one| named.contains(one)).copied().collect();
        Ok(Self { tensor: sums.to_dtype(dtype)?.reshape(dims)?, labels })
    }

    /// The product with another; what is in `later` stays.
    fn join(&self, other: &Self, later: &[Label], budget: &Budget) -> Result<Self> {
        let with = |labels: &[Label]| [later, labels].concat();
        let (left, right) = (self.summed(&with(&other.labels))?, other.summed(&with(&self.labels))?);
        let shared = |one: &&Label| right.labels.contains(one);
        let all: Vec<Label> = left.labels.iter().filter(shared).copied().collect();
        // An axis of length 1 is broadcast: it cannot be summed over together with one that is longer.
        let alike = |one: &&Label| left.size(**one) == right.size(**one);
        let (sum, batch): (Vec<Label>, Vec<Label>) = all.iter().partition(|one| !later.contains(one) && alike(one));
        let own = |one: &Self| one.labels.iter().filter(|label| !all.contains(label)).copied().collect::<Vec<_>>();
        let (rows, columns) = (own(&left), own(&right));
        let labels = [batch.as_slice(), &rows, &columns].concat();
        let sizes =
            |labels: &[Label]| labels.iter().map(|one| left.size(*one).max(right.size(*one))).collect::<Vec<_>>();
        let product = matmul(&left.matrices(&batch, &rows, &sum)?, &right.matrices(&batch, &sum, &columns)?, budget)?;
        let dims = sizes(&labels);
        bounded(&dims)?;
        let joined = Self { tensor: product.reshape(dims)?, labels };
        joined.summed(later)
    }

    /// Arranged as a batch of matrices, the batch with all its axes.
    fn matrices(&self, batch: &[Label], rows: &[Label], columns: &[Label]) -> Result<Tensor> {
        let place = |label: &Label| self.labels.iter().position(|one| one == label).context("an axis is not there");
        let order = batch.iter().chain(rows).chain(columns).map(place).collect::<Result<Vec<_>>>()?;
        let sizes = |labels: &[Label]| labels.iter().map(|label| self.size(*label)).collect::<Vec<_>>();
        let dims = [sizes(batch), vec![bounded(&sizes(rows))?, bounded(&sizes(columns))?]].concat();
        Ok(self.tensor.permute(order)?.reshape(dims)?)
    }

    /// The axes that are wanted, in their order.
    fn arranged(&self, wanted: &[Label]) -> Result<Tensor> {
        let one = self.summed(wanted)?;
        if let Some(absent) = wanted.iter().find(|label| !one.labels.contains(label)) {
            bail!("its result names {absent:?}, which no operand has");
        }
        let place = |label: &Label| one.labels.iter().position(|known| known == label).context("an axis is not there");
        Ok(one.tensor.permute(wanted.iter().map(place).collect::<Result<Vec<_>>>()?)?)
    }
}

/// The first two places of one name.
fn repeated(labels: &[Label]) -> Option<(usize, usize)> {
    (0..labels.len()).find_map(|first| {
        let second = (first + 1..labels.len()).find(|second| labels[*second] == labels[first])?;
        Some((first, second))
    })
}

/// Without the second of two axes: the elements where both places are the same.
fn diagonal(x: &Tensor, first: usize, second: usize) -> Result<Tensor> {
    ensure!(x.dims()[first] == x.dims()[second], "takes the diagonal of the shape {:?}", x.dims());
    let mut dims = x.dims().to_vec();
    dims.remove(second);
    let mut steps = strides(x.dims());
    let both = steps.remove(second);
    steps[first] += both;
    let places = crate::model::tensor::positions(&dims)
        .map(|position| position.iter().zip(&steps).map(|(at, step)| at * step).sum())
        .collect::<Vec<_>>();
    pick(x, &places, &dims)
}
