// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Competition} from "./Competition.sol";
import {ConsumptionBase, InferenceRequest} from "./ConsumptionBase.sol";

/// The newer interface: an answer is a `string`, and `inferenceRequests` returns one struct.
contract ConsumptionString is ConsumptionBase {
    struct Response {
        address modeler;
        string inferenceData;
        uint256 submissionTime;
    }

    mapping(bytes32 requestId => Response[]) private responses;

    event InferenceSubmitted(address indexed modeler, bytes32 indexed requestId, string inference);

    constructor(Competition competition_, IERC20 token) ConsumptionBase(competition_, token) {}

    function submitInference(bytes32 requestId, string calldata inference) external {
        recordAnswer(requestId);
        responses[requestId].push(Response(msg.sender, inference, block.timestamp));
        emit InferenceSubmitted(msg.sender, requestId, inference);
    }

    function getAllResponses(bytes32 requestId) external view returns (Response[] memory) {
        return responses[requestId];
    }

    function inferenceRequests(bytes32 id) external view returns (InferenceRequest memory) {
        return requests[id];
    }
}
