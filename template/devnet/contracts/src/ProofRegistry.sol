// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Competition} from "./Competition.sol";
import {ConsumptionBase, InferenceRequest} from "./ConsumptionBase.sol";
import {Modeler} from "./Modeler.sol";

/// Inferences that the chain itself has checked.
///
/// Before it answers, a modeler commits to the instances (the circuit's public inputs and outputs) of that request
/// and to the verifier that will check the proof. So a later proof is bound to this request and to the inputs used,
/// and an old proof cannot be replayed. What it does not prove: that the features were true, and what the modeler
/// made of the circuit's output afterwards.
contract ProofRegistry {
    /// The order of BN254's scalar field. An element above its half stands for a negative number.
    uint256 public constant FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    /// An EZKL verifier contract, and where among the instances its circuit puts the output.
    struct Verifier {
        bytes32 codeHash;
        uint64 registeredAt;
        uint64 outputIndex;
        uint8 scale;
    }

    struct Commitment {
        address verifier;
        bytes32 instancesHash;
        uint256 committedAt;
    }

    /// A proven output: the fixed-point number `output` / 2^`scale`.
    struct Proof {
        int256 output;
        uint8 scale;
        uint256 verifiedAt;
    }

    Competition public immutable competition;

    mapping(address modeler => mapping(address verifier => Verifier)) public verifiers;
    mapping(bytes32 requestId => mapping(address modeler => Commitment)) public commitments;
    mapping(bytes32 requestId => mapping(address modeler => bool)) public proofRequested;
    mapping(bytes32 requestId => mapping(address modeler => Proof)) public proofs;

    mapping(address modeler => address[]) private verifierList;

    event VerifierRegistered(
        address indexed modeler, address indexed verifier, bytes32 codeHash, uint64 outputIndex, uint8 scale
    );
    event Committed(
        bytes32 indexed requestId, address indexed modeler, address verifier, bytes32 instancesHash
    );
    event ProofRequested(bytes32 indexed requestId, address indexed modeler);
    event ProofVerified(bytes32 indexed requestId, address indexed modeler, int256 output, uint8 scale);

    error NotAContract(address verifier);
    error VerifierAlreadyRegistered(address modeler, address verifier);
    error VerifierNotRegistered(address modeler, address verifier);
    error UnknownRequest(bytes32 requestId);
    error AlreadyCommitted(bytes32 requestId, address modeler);
    error AlreadyAnswered(bytes32 requestId, address modeler);
    error NotCommitted(bytes32 requestId, address modeler);
    error NotConsumerOrValidator(address caller);
    error ProofAlreadyRequested(bytes32 requestId, address modeler);
    error ProofAlreadyVerified(bytes32 requestId, address modeler);
    error InstancesDoNotMatchCommitment(bytes32 requestId, bytes32 committed, bytes32 given);
    error ProofRejected(bytes32 requestId, address verifier);
    error OutputIndexOutOfRange(uint256 outputIndex, uint256 instances);
    error OutputNotInField(uint256 element);

    constructor(Competition competition_) {
        competition = competition_;
    }

    /// Registers a verifier of the caller's: append-only, so that what was promised stays checkable.
    function registerVerifier(address verifier, uint64 outputIndex, uint8 scale) external {
        if (verifier.code.length == 0) revert NotAContract(verifier);
        if (verifiers[msg.sender][verifier].registeredAt != 0) {
            revert VerifierAlreadyRegistered(msg.sender, verifier);
        }
        bytes32 codeHash = verifier.codehash;
        verifiers[msg.sender][verifier] = Verifier(codeHash, uint64(block.timestamp), outputIndex, scale);
        verifierList[msg.sender].push(verifier);
        emit VerifierRegistered(msg.sender, verifier, codeHash, outputIndex, scale);
    }

    /// Every verifier a modeler registered, oldest first.
    function getVerifiers(address modeler) external view returns (address[] memory) {
        return verifierList[modeler];
    }

    /// `instancesHash` is `keccak256(abi.encode(instances))`. Only before the answer: afterwards a modeler could choose
    /// inputs that suit what it said.
    function commit(bytes32 requestId, address verifier, bytes32 instancesHash) external {
        if (verifiers[msg.sender][verifier].registeredAt == 0) revert VerifierNotRegistered(msg.sender, verifier);
        if (consumerOf(requestId) == address(0)) revert UnknownRequest(requestId);
        if (commitments[requestId][msg.sender].verifier != address(0)) {
            revert AlreadyCommitted(requestId, msg.sender);
        }
        if (ConsumptionBase(competition.consumptionContract()).modelerHasResponded(msg.sender, requestId)) {
            revert AlreadyAnswered(requestId, msg.sender);
        }
        commitments[requestId][msg.sender] = Commitment(verifier, instancesHash, block.timestamp);
        emit Committed(requestId, msg.sender, verifier, instancesHash);
    }

    /// The consumer of the request, or a validator, asks for the proof.
    function requestProof(bytes32 requestId, address modeler) external {
        if (consumerOf(requestId) != msg.sender && !Modeler(competition.modelerContract()).isValidator(msg.sender)) {
            revert NotConsumerOrValidator(msg.sender);
        }
        if (commitments[requestId][modeler].verifier == address(0)) revert NotCommitted(requestId, modeler);
        if (proofRequested[requestId][modeler]) revert ProofAlreadyRequested(requestId, modeler);
        proofRequested[requestId][modeler] = true;
        emit ProofRequested(requestId, modeler);
    }

    /// Checks the proof of the caller's inference against its commitment and keeps the proven output.
    function submitProof(bytes32 requestId, bytes calldata proof, uint256[] calldata instances) external {
        Commitment storage commitment = commitments[requestId][msg.sender];
        if (commitment.verifier == address(0)) revert NotCommitted(requestId, msg.sender);
        if (proofs[requestId][msg.sender].verifiedAt != 0) revert ProofAlreadyVerified(requestId, msg.sender);
        bytes32 instancesHash = keccak256(abi.encode(instances));
        if (instancesHash != commitment.instancesHash) {
            revert InstancesDoNotMatchCommitment(requestId, commitment.instancesHash, instancesHash);
        }
        Verifier storage verifier = verifiers[msg.sender][commitment.verifier];
        if (verifier.outputIndex >= instances.length) {
            revert OutputIndexOutOfRange(verifier.outputIndex, instances.length);
        }
        int256 output = toSigned(instances[verifier.outputIndex]);
        if (!accepts(commitment.verifier, proof, instances)) revert ProofRejected(requestId, commitment.verifier);

        proofs[requestId][msg.sender] = Proof(output, verifier.scale, block.timestamp);
        emit ProofVerified(requestId, msg.sender, output, verifier.scale);
    }

    /// A verifier says no by returning false, by reverting, or by returning nothing.
    function accepts(address verifier, bytes calldata proof, uint256[] calldata instances)
        private
        view
        returns (bool)
    {
        (bool success, bytes memory returned) =
            verifier.staticcall(abi.encodeWithSignature("verifyProof(bytes,uint256[])", proof, instances));
        return success && returned.length == 32 && abi.decode(returned, (uint256)) == 1;
    }

    /// The consumer of a request, zero where there is no such request. Deployments of the Consumption contract
    /// return a request either as four values or as one struct, which is one offset word more.
    function consumerOf(bytes32 requestId) private view returns (address) {
        (bool success, bytes memory returned) = competition.consumptionContract().staticcall(
            abi.encodeWithSignature("inferenceRequests(bytes32)", requestId)
        );
        if (!success || returned.length < 160) revert UnknownRequest(requestId);
        if (abi.decode(returned, (uint256)) == 32) return abi.decode(returned, (InferenceRequest)).consumer;
        (,, address consumer,) = abi.decode(returned, (bytes32, uint256, address, string));
        return consumer;
    }

    function toSigned(uint256 element) private pure returns (int256) {
        if (element >= FIELD) revert OutputNotInField(element);
        return element > FIELD / 2 ? -int256(FIELD - element) : int256(element);
    }
}
