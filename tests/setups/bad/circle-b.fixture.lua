return provium:vm_fixture('setups/bad/circle-a'):snapshot()
