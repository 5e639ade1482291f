// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// A round of the drand beacon: the validators' proof that they chose the inference at random.
struct DrandProof {
    address submitter;
    uint256 round;
    bytes32 randomness;
    bytes signature;
    bytes previous_signature;
}

/// Challenges to prove an inference, and the answers to them. A modeler has one slot: a new challenge overwrites the
/// last. The beacon's signature is not checked here: which inference to prove is the validator's word.
contract Modeler is Ownable {
    struct ZKMLChallenge {
        string ipfsChallenge;
        string ipfsResponse;
        string ipfsGraded;
        string ipfsGradeDetailLink;
        uint256 performanceResult;
    }

    mapping(address => bool) public isValidator;
    mapping(address modeler => ZKMLChallenge) public ZKMLChallenges;
    /// Who gave the challenge that is in a modeler's slot.
    mapping(address modeler => address) public challengedBy;

    event ValidatorSet(address indexed validator, bool allowed);
    event ZKMLChallengeGiven(address indexed validator, address indexed modeler, string ipfsChallenge);
    event ZKMLChallengeResponse(address indexed validator, address indexed modeler, string ipfsResponse);

    error NotValidator(address caller);
    error EmptyChallenge();
    error EmptyResponse();
    error NotChallenged(address modeler, address validator);
    error ChallengeAlreadyAnswered(address modeler, address validator);

    constructor() Ownable(msg.sender) {}

    function setValidator(address validator, bool allowed) external onlyOwner {
        isValidator[validator] = allowed;
        emit ValidatorSet(validator, allowed);
    }

    function ZKMLChallengeModeler(address modeler, string calldata ipfsChallenge, DrandProof calldata) external {
        if (!isValidator[msg.sender]) revert NotValidator(msg.sender);
        if (bytes(ipfsChallenge).length == 0) revert EmptyChallenge();
        delete ZKMLChallenges[modeler];
        ZKMLChallenges[modeler].ipfsChallenge = ipfsChallenge;
        challengedBy[modeler] = msg.sender;
        emit ZKMLChallengeGiven(msg.sender, modeler, ipfsChallenge);
    }

    /// Answers the challenge in the caller's own slot, once.
    function respondToZKMLChallenge(address validator, string calldata ipfsResponse) external {
        if (bytes(ipfsResponse).length == 0) revert EmptyResponse();
        if (validator == address(0) || challengedBy[msg.sender] != validator) {
            revert NotChallenged(msg.sender, validator);
        }
        ZKMLChallenge storage challenge = ZKMLChallenges[msg.sender];
        if (bytes(challenge.ipfsResponse).length != 0) revert ChallengeAlreadyAnswered(msg.sender, validator);
        challenge.ipfsResponse = ipfsResponse;
        emit ZKMLChallengeResponse(validator, msg.sender, ipfsResponse);
    }
}
