//! Multi-Task Zipping: which neurons to share, and with which weights.
//!
//! All approximation happens here. [`driver`] walks through the layers. The other modules see only a
//! part: matrices ([`solver`], [`matching`]), one site ([`site`]), or structure ([`plan`]). None
//! reads a file or knows a runtime.
//!
//! Index of the paper's equations:
//!
//! | paper | what | where |
//! |---|---|---|
//! | sec. 3.2 | layers that correspond, and their common inputs | [`align`](crate::align), [`site`] |
//! | eq. 3 | error of a layer as a quadratic form of its weights' change | [`Hessian::mean_square`](solver::hessian::Hessian::mean_square) |
//! | eqs. 7–8 | Hessians Σ x xᵀ of both tasks | [`Moments`](crate::calib::gram::Moments), [`Hessian::reduced`](solver::hessian::Hessian::reduced) |
//! | eq. 10 | common weights of a pair | [`Problem::fuse`](solver::pair_cost::Problem::fuse) |
//! | eqs. 11–12 | cost of a pair | [`Problem::cost`](solver::pair_cost::Problem::cost) |
//! | sec. 3.3 | greedy choice of pairs | [`matching::Greedy`] |
//! | Algorithm 1 | the walk through the layers | [`driver::Driver::run`] |
//! | sec. 3.4 | adding one net at a time | [`solver::neuron_set`](self::solver), [`driver`] |
//! | sec. 3.6 | masks of sparse nets | [`solver::fuse::apply_masks`], [`solver::sparse::refit_sparse`] |
//! | sec. 3.7 | residual streams | [`driver`]'s groups |
//!
//! Beyond the paper: [`solver::refit`] (least squares to the original pre-activations),
//! [`solver::channelwise`] (depthwise layers), [`plan::PairCosts::allocate`] (how much to share where).

pub mod driver;
pub mod joint;
pub mod matching;
pub mod options;
pub mod plan;
pub mod site;
pub mod solver;
pub mod statistics;
