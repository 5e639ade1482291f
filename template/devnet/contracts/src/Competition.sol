// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// The terms of the challenge, as `getSAParams` returns them.
struct SAParams {
    uint256 bountyAmount;
    uint256 requestPaymentAmount;
    uint256 requestExpirationTime;
    string responseDataType;
    uint256 endAt;
    address competitionContractAddress;
    address stakedToken;
    uint256 stakedAmount;
    uint256 disputeStake;
    uint256 slashAmount;
}

/// The challenge: who is among the top N, on which terms, and where the other contracts are.
contract Competition is Ownable {
    /// How many modelers answer requests.
    uint256 public constant TOP_N = 10;

    address public modelerContract;
    address public consumptionContract;

    SAParams private params;
    address[] private topN;

    event ContractsSet(address modelerContract, address consumptionContract);
    event TopNModelersSet(address[] modelers);

    error ContractsAlreadySet();
    error ZeroAddress();
    error TooManyModelers(uint256 given, uint256 atMost);
    error ModelerNamedTwice(address modeler);

    constructor(SAParams memory terms) Ownable(msg.sender) {
        params = terms;
        params.competitionContractAddress = address(this);
    }

    function getSAParams() external view returns (SAParams memory) {
        return params;
    }

    function getTopNModelers() external view returns (address[] memory) {
        return topN;
    }

    function isTopNModeler(address modeler) public view returns (bool) {
        for (uint256 i = 0; i < topN.length; i++) {
            if (topN[i] == modeler) return true;
        }
        return false;
    }

    /// The other contracts need this one's address, so they are named afterwards, once.
    function setContracts(address modeler, address consumption) external onlyOwner {
        if (modelerContract != address(0)) revert ContractsAlreadySet();
        if (modeler == address(0) || consumption == address(0)) revert ZeroAddress();
        modelerContract = modeler;
        consumptionContract = consumption;
        emit ContractsSet(modeler, consumption);
    }

    /// Replaces the ranking of the finished competition.
    function setTopNModelers(address[] calldata modelers) external onlyOwner {
        if (modelers.length > TOP_N) revert TooManyModelers(modelers.length, TOP_N);
        delete topN;
        for (uint256 i = 0; i < modelers.length; i++) {
            if (modelers[i] == address(0)) revert ZeroAddress();
            if (isTopNModeler(modelers[i])) revert ModelerNamedTwice(modelers[i]);
            topN.push(modelers[i]);
        }
        emit TopNModelersSet(modelers);
    }
}
