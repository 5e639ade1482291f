// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Competition} from "./Competition.sol";
import {ConsumptionBase, InferenceRequest} from "./ConsumptionBase.sol";

/// The documented contract: an answer is a `uint256`, and `inferenceRequests` returns four values flat.
contract Consumption is ConsumptionBase {
    struct Response {
        address modeler;
        uint256 inferenceData;
        uint256 submissionTime;
    }

    mapping(bytes32 requestId => Response[]) private responses;

    event InferenceSubmitted(address indexed modeler, bytes32 indexed requestId, uint256 inference);

    constructor(Competition competition_, IERC20 token) ConsumptionBase(competition_, token) {}

    function submitInference(bytes32 requestId, uint256 inference) external {
        recordAnswer(requestId);
        responses[requestId].push(Response(msg.sender, inference, block.timestamp));
        emit InferenceSubmitted(msg.sender, requestId, inference);
    }

    function getAllResponses(bytes32 requestId) external view returns (Response[] memory) {
        return responses[requestId];
    }

    function inferenceRequests(bytes32 id)
        external
        view
        returns (bytes32 requestId, uint256 requestTime, address consumer, string memory input)
    {
        InferenceRequest storage request = requests[id];
        return (request.requestId, request.requestTime, request.consumer, request.input);
    }
}
