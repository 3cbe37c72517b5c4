// SPDX-License-Identifier: MIT
#include "card.hpp"

#include <algorithm>
#include <bit>
#include <new>
#include <stdexcept>
#include <sys/mman.h>

namespace bench {

Card::Card(unsigned processors, unsigned warps_per_processor, const AccessTimes& times)
    : processors_(processors), times_(times), lanes_(std::size_t{processors} * warps_per_processor * warp_lanes),
      fence_free_at_(processors) {
    void* const memory = mmap(nullptr, lanes_.size() * stack_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    stacks_ = static_cast<std::byte*>(memory);
}

Card::~Card() { munmap(stacks_, lanes_.size() * stack_bytes); }

double Card::run(std::function<void(unsigned)> body) {
    body_ = std::move(body);
    running_ = this;
    address_free_at_.clear();
    std::fill(fence_free_at_.begin(), fence_free_at_.end(), 0.0);
    const unsigned warps = lane_count() / warp_lanes;
    for (unsigned lane = 0; lane < lane_count(); ++lane) {
        lanes_[lane] = {};
        // Warps begin in no order of their numbers.
        lanes_[lane].clock = 0.5 * static_cast<double>(lane / warp_lanes * std::uint64_t{7919} % warps) / warps;
        // Tops that differ a little do not all fall into the same sets of the cache.
        lanes_[lane].fiber.reset(stacks_ + lane * stack_bytes, stack_bytes - lane % 16 * 192, &Card::enter);
        turns_.push({lanes_[lane].clock, lane});
    }
    current_ = turns_.top().lane;
    turns_.pop();
    cuda_zstd::sim::Fiber::switch_to(home_, lanes_[current_].fiber);
    double last = 0;
    for (const Lane& lane : lanes_) {
        if (!lane.ended) throw std::logic_error("the model: lanes wait for others of their warp that have ended");
        last = std::max(last, lane.clock);
    }
    return last;
}

void Card::enter() {
    Card& card = *running_;
    cuda_zstd::sim::Fiber::entered(card.home_);
    card.body_(card.current_);
    card.lanes_[card.current_].ended = true;
    card.go_on();
}

void Card::go_on() {
    const unsigned before = current_;
    if (!at_once_.empty()) {
        current_ = at_once_.back();
        at_once_.pop_back();
    } else if (!turns_.empty()) {
        current_ = turns_.top().lane;
        turns_.pop();
    } else {
        cuda_zstd::sim::Fiber::switch_to(lanes_[before].fiber, home_);
        return;
    }
    if (current_ != before) cuda_zstd::sim::Fiber::switch_to(lanes_[before].fiber, lanes_[current_].fiber);
}

void Card::wait_until(double us) {
    lanes_[current_].clock = us;
    if (at_once_.empty() && (turns_.empty() || us <= turns_.top().us)) return;
    turns_.push({us, current_});
    go_on();
}

void Card::end_access(double begun, double more, const Site& site) {
    auto& [where, spent] = sites_[{site.file_name(), site.line()}];
    where = site;
    ++spent.accesses;
    spent.us += now() + more - begun;
    wait_until(now() + more);
}

void Card::queue_at(const void* address) {
    double& free_at = address_free_at_[address];
    const double turn = std::max(free_at, now());
    free_at = turn + times_.same_address;
    if (turn > now()) wait_until(turn);
}

void Card::fence() {
    double& free_at = fence_free_at_[processor()];
    const double turn = std::max(free_at, now());
    free_at = turn + times_.same_processor;
    wait_until(turn + times_.release);
}

std::uint64_t Card::arrive(Collective collective, std::uint32_t mask, std::uint64_t value, unsigned source) {
    const unsigned first = current_ / warp_lanes * warp_lanes;
    Lane& self = lanes_[current_];
    self.waits_in = collective;
    self.mask = mask;
    self.value = value;
    self.source = source;
    for (std::uint32_t left = mask; left != 0; left &= left - 1) {
        const Lane& other = lanes_[first + static_cast<unsigned>(std::countr_zero(left))];
        if (other.waits_in == collective && other.mask == mask) continue;
        go_on(); // until the last one comes
        return lanes_[current_].result;
    }
    for (std::uint32_t left = mask; left != 0; left &= left - 1) {
        Lane& lane = lanes_[first + static_cast<unsigned>(std::countr_zero(left))];
        lane.result = result_for(lane, first);
    }
    for (std::uint32_t left = mask; left != 0; left &= left - 1) {
        const unsigned number = first + static_cast<unsigned>(std::countr_zero(left));
        lanes_[number].waits_in = Collective::none;
        if (number == current_) continue;
        lanes_[number].clock = self.clock;
        at_once_.push_back(number);
    }
    return self.result;
}

std::uint64_t Card::result_for(const Lane& lane, unsigned first) const {
    if (lane.waits_in == Collective::shfl) return lanes_[first + lane.source].value;
    std::uint64_t result = 0;
    for (std::uint32_t left = lane.mask; left != 0; left &= left - 1) {
        const auto bit = static_cast<unsigned>(std::countr_zero(left));
        const std::uint64_t other = lanes_[first + bit].value;
        switch (lane.waits_in) {
        case Collective::match_any:
            result |= std::uint64_t{other == lane.value} << bit;
            break;
        case Collective::ballot:
            result |= std::uint64_t{other != 0} << bit;
            break;
        case Collective::reduce_or:
            result |= other;
            break;
        default:
            break;
        }
    }
    return result;
}

std::vector<std::pair<std::string, Card::Spent>> Card::take_sites() {
    std::vector<std::pair<std::string, Spent>> sites;
    for (const auto& [key, entry] : sites_) {
        const auto& [where, spent] = entry;
        const std::string path = where.file_name();
        std::string function = where.function_name();
        function = function.substr(0, function.find('('));
        const std::size_t name = function.find_last_of(": ");
        sites.emplace_back(path.substr(path.rfind('/') + 1) + ":" + std::to_string(where.line()) + " " +
                               (name == std::string::npos ? function : function.substr(name + 1)),
                           spent);
    }
    std::sort(sites.begin(), sites.end(), [](const auto& a, const auto& b) { return a.second.us > b.second.us; });
    sites_.clear();
    return sites;
}

} // namespace bench
