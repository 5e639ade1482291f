//! The circuit that a predictor answers with, and whether a witness of it can be proven.
//!
//! EZKL's figures of a witness are exact for lookups and range checks. They say nothing of an operator whose output the prover
//! claims and the circuit enforces (a reciprocal, a square root): a witness can lie inside all ranges and have no proof. `mock` checks
//! every constraint. It costs about ten times the witness, so it runs where it is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, anyhow};

use super::tolerance::Measured;
use crate::config::{Config, MockPolicy};
use crate::ezkl::Ezkl;
use crate::ezkl::model_version::{ModelVersion, SetupRecord};
use crate::ezkl::reason::{Refusal, about_inputs};
use crate::ezkl::witness::Witness;
use crate::fault::{Classify as _, Fault, Result};
use crate::model::{self, ModelInput};

/// One witness in so many is checked although nothing asks for it: an operator that should be among the claimed ones shows so.
const ONE_IN: u64 = 20;

/// The circuit, as the model files have it.
#[derive(Clone)]
pub struct Circuit {
    pub ezkl: Ezkl,
    pub version: ModelVersion,
    /// What `setup` has measured of it.
    pub measured: Arc<Measured>,
    policy: MockPolicy,
    /// Its operators whose outputs the prover claims.
    claims: Arc<Vec<String>>,
    /// The outputs that it has of the model's; all if there is none.
    pub outputs: Arc<Vec<String>>,
    /// Witnesses that no reason asked `mock` for.
    ordinary: Arc<AtomicU64>,
}

/// Why `mock` checks a witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Outside,
    Claims,
    Edge,
    Always,
    Sample,
}

impl Circuit {
    /// The circuit of the model files, with an EZKL of their version.
    ///
    /// # Errors
    /// `Fatal`: files that are missing or do not belong together, another version of EZKL, visibilities that no answer can be
    /// proven with.
    pub async fn load(config: &Config) -> Result<Self> {
        let version = ModelVersion::read(&config.model_files)?;
        version.settings.check_visibilities(&version.files.settings)?;
        let ezkl = Ezkl::new(&config.ezkl)?;
        version.settings.check_version(&ezkl.version().await?, &version.files.settings)?;
        Self::of(config, ezkl, version)
    }

    /// A version of the model files of `config`, of which `setup` has left its measurements beside them.
    ///
    /// # Errors
    /// `Fatal`: an ONNX file or a manifest that cannot be read.
    pub fn of(config: &Config, ezkl: Ezkl, version: ModelVersion) -> Result<Self> {
        let making = SetupRecord::beside(&config.model_files)?;
        let (measured, outputs) = making.map(|making| (making.fidelity.measured, making.outputs)).unwrap_or_default();
        let circuit = Self::new(ezkl, version, measured, config.ezkl.mock)?;
        Ok(Self { outputs: Arc::new(outputs), ..circuit })
    }

    /// # Errors
    /// `Fatal`: an ONNX file that cannot be read.
    pub fn new(ezkl: Ezkl, version: ModelVersion, measured: Measured, policy: MockPolicy) -> Result<Self> {
        let onnx = version.files.compiled_onnx();
        let claims =
            std::fs::read(onnx).map_err(anyhow::Error::from).and_then(|bytes| model::claimed_operators(&bytes));
        let claims = Arc::new(claims.with_context(|| format!("the model {}", onnx.display())).fatal()?);
        let measured = Arc::new(measured);
        // The first that is checked is the twentieth: a command or a test that makes one needs no worker more.
        let ordinary = Arc::new(AtomicU64::new(1));
        Ok(Self { ezkl, version, measured, policy, claims, outputs: Arc::default(), ordinary })
    }

    /// The same circuit, with what was measured of it since.
    #[must_use]
    pub fn with_measured(self, measured: Measured) -> Self {
        Self { measured: Arc::new(measured), ..self }
    }

    /// When `mock` checks a witness, for a person.
    pub fn mock_policy(&self) -> String {
        match self.policy {
            MockPolicy::Always => "mock checks every answer (NOVA_MOCK=always)".to_owned(),
            MockPolicy::Never => "mock checks no answer (NOVA_MOCK=never)".to_owned(),
            MockPolicy::Auto if self.claims.is_empty() => {
                format!("mock checks one answer in {ONE_IN}, and those near the edges of the circuit's ranges")
            }
            MockPolicy::Auto => {
                format!("mock checks every answer, because the circuit holds {}", self.claims.join(", "))
            }
        }
    }

    /// The witness of an input.
    ///
    /// # Errors
    /// `Permanent` where EZKL refuses it; with the column that reaches furthest where a number does not fit into the circuit.
    pub async fn witness(&self, input: &ModelInput) -> Result<Witness> {
        self.ezkl.witness(&self.version.files, &input.flat()).await.map_err(|fault| {
            let cause = Refusal::in_error(fault.error()).and_then(Refusal::cause);
            match (cause, furthest(input)) {
                (Some(cause), Some(said)) if cause.is_of_values() => fault.context(said),
                _ => fault,
            }
        })
    }

    /// # Errors
    /// `Permanent` where the witness of this input cannot be proven: nothing may be promised then. Where its values are beyond the circuit's
    /// ranges, with the column that reaches furthest.
    pub async fn check_provable(&self, witness: &Witness, input: &ModelInput) -> Result<()> {
        let settings = &self.version.settings;
        let (is_inside, is_near_edge) = (witness.is_within_ranges(settings), witness.is_near_edge(settings));
        let reason = self.reason(is_inside, is_near_edge);
        let because = match (reason, self.policy) {
            (None, _) => return Ok(()),
            (Some(reason @ Reason::Outside), MockPolicy::Never) => self.explained(reason),
            (Some(reason), _) => match self.mock(witness).await? {
                Ok(()) => return Ok(()),
                Err(refusal) => {
                    format!("{}; EZKL: {}", self.explained(reason), refusal.lines().next().unwrap_or_default())
                }
            },
        };
        let column = furthest(input).filter(|_| !is_inside).map_or_else(String::new, |said| format!("; {said}"));
        Err(Fault::Permanent(anyhow!(
            "this answer could not be proven, so it is not given: {}; {because}{column}",
            witness.describe_ranges(settings)
        )))
    }

    /// Whether all constraints of the circuit hold for the witness, or EZKL's reason why not.
    pub async fn mock(&self, witness: &Witness) -> Result<std::result::Result<(), String>> {
        let saved = self.ezkl.scratch().file().transient()?;
        tokio::fs::write(saved.path(), &witness.json).await.context("cannot write a temporary file").transient()?;
        self.ezkl.mock(&self.version.files, saved.path()).await
    }

    fn reason(&self, is_inside: bool, is_near_edge: bool) -> Option<Reason> {
        let found = if !is_inside {
            Some(Reason::Outside)
        } else if self.policy == MockPolicy::Always {
            Some(Reason::Always)
        } else if !self.claims.is_empty() {
            Some(Reason::Claims)
        } else {
            is_near_edge.then_some(Reason::Edge)
        };
        let found = found.or_else(|| self.is_sampled().then_some(Reason::Sample));
        found.filter(|reason| self.policy != MockPolicy::Never || *reason == Reason::Outside)
    }

    fn is_sampled(&self) -> bool {
        self.ordinary.fetch_add(1, Ordering::Relaxed).is_multiple_of(ONE_IN)
    }

    fn explained(&self, reason: Reason) -> String {
        match reason {
            Reason::Outside => "its values lie outside the circuit's ranges".to_owned(),
            Reason::Edge => "its values lie at the edge of the circuit's ranges".to_owned(),
            Reason::Claims => {
                format!("the circuit cannot hold every input of {}, and this is one of those", self.claims.join(", "))
            }
            Reason::Always | Reason::Sample => "a constraint of the circuit does not hold for this input".to_owned(),
        }
    }
}

/// The column of an input that reaches furthest, and what to do about it.
fn furthest(input: &ModelInput) -> Option<String> {
    input.largest().map(|(label, value)| about_inputs(&[(label.to_owned(), value)]))
}
