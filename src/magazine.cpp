// SPDX-License-Identifier: MIT
#include "magazine.hpp"

namespace cuda_zstd::detail {

Chain Magazine::make_room(const BlockRecord& record) noexcept {
    Chain leaving;
    Bin* bin = bin_of(record.extent());
    if (bin == nullptr) {
        const unsigned at = next_place();
        sizes_[at] = record.usable_bytes();
        used_[at] = true;
        while (blocks_[at].count != 0)
            leaving.push(blocks_[at].pop());
    } else if (bin->count == bin->most) {
        Chain newer;
        while (bin->count > bin->most / 2)
            newer.push(bin->pop());
        while (bin->count != 0)
            leaving.push(bin->pop());
        while (newer.head != nullptr)
            bin->push(newer.pop());
    }
    bytes_ -= leaving.bytes;
    return leaving;
}

Chain Magazine::take_all() noexcept {
    Chain all;
    const auto empty = [&](Bin& bin) {
        while (bin.count != 0)
            all.push(bin.pop());
    };
    for (Bin& bin : slots_)
        empty(bin);
    for (Bin& bin : blocks_)
        empty(bin);
    while (passing_count_ != 0)
        all.push(*passing_[--passing_count_]);
    bytes_ = 0;
    return all;
}

} // namespace cuda_zstd::detail
