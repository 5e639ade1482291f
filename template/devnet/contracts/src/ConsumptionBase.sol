// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Competition} from "./Competition.sol";

/// One inference request.
struct InferenceRequest {
    bytes32 requestId;
    uint256 requestTime;
    address consumer;
    string input;
}

/// Requests, payments, and who answered in time. How an answer is encoded and how a request is read back differs
/// between deployments, so that is left to `Consumption` and `ConsumptionString`.
abstract contract ConsumptionBase is Ownable {
    using SafeERC20 for IERC20;

    /// What the hosts that answer in time get of each fee; the rest goes to the owner.
    uint256 public constant HOST_SHARE_PERCENT = 85;
    uint256 public constant EPOCH = 7 days;
    /// The SLA where the terms name none.
    uint256 public constant DEFAULT_SLA = 600;

    /// The fees of an epoch's requests and the answers that earn a part of them.
    struct Epoch {
        uint256 hostFees;
        uint256 answersInTime;
        mapping(address modeler => uint256) answersInTimeOf;
        mapping(address modeler => bool) claimed;
    }

    Competition public immutable competition;
    IERC20 public immutable paymentToken;
    /// When epoch 0 began.
    uint256 public immutable startedAt;

    bool public consumptionWindow;
    uint256 public numberRequests;
    mapping(address consumer => uint256) public balances;
    mapping(address modeler => mapping(bytes32 requestId => bool)) public modelerHasResponded;
    /// The SLA record: true for each answer that came inside the SLA.
    mapping(address modeler => mapping(bytes32 requestId => bool)) public answeredInTime;

    mapping(bytes32 requestId => InferenceRequest) internal requests;
    mapping(uint256 epoch => Epoch) private epochs;

    event ConsumerRequestMade(address indexed consumer, bytes32 requestId);
    event ConsumptionWindowToggled(bool open);
    event Deposited(address indexed consumer, uint256 amount);
    event Withdrawn(address indexed consumer, uint256 amount);
    event RewardClaimed(address indexed modeler, uint256 indexed epoch, uint256 amount);

    error ConsumptionWindowClosed();
    error InsufficientBalance(address consumer, uint256 balance, uint256 needed);
    error RequestAlreadyMade(bytes32 requestId);
    error UnknownRequest(bytes32 requestId);
    error NotTopNModeler(address modeler);
    error AlreadyResponded(address modeler, bytes32 requestId);
    error NothingToWithdraw(address consumer);
    error EpochNotOver(uint256 epoch, uint256 claimableAt);
    error NothingToClaim(address modeler, uint256 epoch);

    constructor(Competition competition_, IERC20 token) Ownable(msg.sender) {
        competition = competition_;
        paymentToken = token;
        startedAt = block.timestamp;
    }

    /// Requests are taken while the window is open.
    function toggleConsumptionWindow(bool open) external onlyOwner {
        consumptionWindow = open;
        emit ConsumptionWindowToggled(open);
    }

    function depositPaymentToken(uint256 amount) external {
        balances[msg.sender] += amount;
        emit Deposited(msg.sender, amount);
        paymentToken.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// Pays the caller's whole balance back.
    function withdrawPaymentToken() external {
        uint256 amount = balances[msg.sender];
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        balances[msg.sender] = 0;
        emit Withdrawn(msg.sender, amount);
        paymentToken.safeTransfer(msg.sender, amount);
    }

    function makeConsumerRequest(string calldata input) external {
        if (!consumptionWindow) revert ConsumptionWindowClosed();
        bytes32 requestId = generateRequestID(input, block.timestamp, msg.sender);
        if (requests[requestId].requestTime != 0) revert RequestAlreadyMade(requestId);
        uint256 fee = competition.getSAParams().requestPaymentAmount;
        uint256 balance = balances[msg.sender];
        if (balance < fee) revert InsufficientBalance(msg.sender, balance, fee);

        uint256 hostFee = (fee * HOST_SHARE_PERCENT) / 100;
        balances[msg.sender] = balance - fee;
        epochs[epochOf(block.timestamp)].hostFees += hostFee;
        requests[requestId] = InferenceRequest(requestId, block.timestamp, msg.sender, input);
        numberRequests++;
        emit ConsumerRequestMade(msg.sender, requestId);
        paymentToken.safeTransfer(owner(), fee - hostFee);
    }

    /// The caller's part of an epoch's fees: one share for each of its answers inside the SLA. Claimable when the
    /// last request of the epoch can no longer be answered in time.
    function claimReward(uint256 rewardEpoch) external {
        uint256 claimableAt = startedAt + (rewardEpoch + 1) * EPOCH + sla();
        if (block.timestamp < claimableAt) revert EpochNotOver(rewardEpoch, claimableAt);
        Epoch storage epoch = epochs[rewardEpoch];
        uint256 answers = epoch.answersInTimeOf[msg.sender];
        if (answers == 0 || epoch.claimed[msg.sender]) revert NothingToClaim(msg.sender, rewardEpoch);
        epoch.claimed[msg.sender] = true;
        uint256 amount = (epoch.hostFees * answers) / epoch.answersInTime;
        emit RewardClaimed(msg.sender, rewardEpoch, amount);
        paymentToken.safeTransfer(msg.sender, amount);
    }

    /// The same input from the same sender in the same second has the same id.
    function generateRequestID(string calldata input, uint256 blockTimestamp, address sender)
        public
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(input, blockTimestamp, sender));
    }

    /// Seconds from a request to the last answer that counts.
    function sla() public view returns (uint256) {
        uint256 expiration = competition.getSAParams().requestExpirationTime;
        return expiration == 0 ? DEFAULT_SLA : expiration;
    }

    function epochOf(uint256 timestamp) public view returns (uint256) {
        return (timestamp - startedAt) / EPOCH;
    }

    /// Records that the caller answers `requestId` now, or reverts.
    function recordAnswer(bytes32 requestId) internal {
        if (!competition.isTopNModeler(msg.sender)) revert NotTopNModeler(msg.sender);
        uint256 requestTime = requests[requestId].requestTime;
        if (requestTime == 0) revert UnknownRequest(requestId);
        if (modelerHasResponded[msg.sender][requestId]) revert AlreadyResponded(msg.sender, requestId);
        modelerHasResponded[msg.sender][requestId] = true;
        if (block.timestamp <= requestTime + sla()) {
            answeredInTime[msg.sender][requestId] = true;
            Epoch storage epoch = epochs[epochOf(requestTime)];
            epoch.answersInTime++;
            epoch.answersInTimeOf[msg.sender]++;
        }
    }
}
